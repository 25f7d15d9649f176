#!/usr/bin/env bash
# Compiles the Java client with what Debian packages: ./build.sh OUTPUT_FOLDER
#   apt-get install openjdk-17-jdk-headless protobuf-compiler protobuf-compiler-grpc-java-plugin \
#     libgrpc-java libprotobuf-java libgoogle-gson-java libnetty-java libperfmark-java \
#     libnetty-tcnative-java libnetty-tcnative-jni libgeronimo-annotation-1.3-spec-java
# Prints the class path to run it with: java -cp "$(./build.sh build)" unsee.Generate
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
jars=/usr/share/java
libraries=""
for name in grpc-api grpc-context grpc-core grpc-netty grpc-protobuf grpc-protobuf-lite grpc-stub \
  gson guava opencensus-api protobuf netty-buffer netty-codec netty-codec-http netty-codec-http2 \
  netty-common netty-handler netty-handler-proxy netty-resolver netty-transport \
  netty-transport-native-unix-common netty-tcnative perfmark-api \
  perfmark-impl; do
  libraries+=":$jars/$name.jar"
done
rm -rf "$out/stubs" "$out/classes"
mkdir -p "$out/stubs" "$out/classes/META-INF/native"
# TLS: Debian's Netty negotiates HTTP/2 by OpenSSL only, and looks for it under this name.
cp "$(find /usr/lib -name libnetty-tcnative.so -print -quit)" \
  "$out/classes/META-INF/native/libnetty_tcnative.so"
protoc --proto_path=../proto --java_out="$out/stubs" --grpc-java_out="$out/stubs" \
  --plugin=protoc-gen-grpc-java="$(command -v grpc_java_plugin)" \
  grpc_service.proto
mapfile -t sources < <(find src "$out/stubs" -name '*.java')
javac --release 17 -Xlint:all,-processing,-path,-classfile -Werror -d "$out/classes" \
  -cp "$libraries:$jars/geronimo-annotation-1.3-spec.jar" "${sources[@]}" >&2
echo "$out/classes$libraries"
