package unsee;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import unsee.TextToVideo.*;

/** An example: asks a server for a clip, streams progress to stderr, saves the clip and its record. */
public final class Generate {
  private static final String USAGE =
      """
      usage: unsee.Generate PROMPT [--policy NAME] [--seed N] [--steps N] [--other-input VALUE]
                            [--url HOST:PORT] [--timeout SECONDS] [--out clip.npy]
      UNSEE_TOKEN and UNSEE_CA_CERTIFICATE are read from the environment.""";

  private static final Logger GRPC = Logger.getLogger("io.grpc"); // held, lest it is collected
  private static final CompletableFuture<Void> REPORTED = new CompletableFuture<>();

  public static void main(String[] arguments) {
    GRPC.setLevel(Level.OFF); // the error says all that a caller needs
    int code = 0;
    try {
      generate(arguments);
    } catch (GenerationException error) {
      System.err.println("error: " + error.status() + ": " + error.getMessage());
      code = 3;
    } catch (IOException | RuntimeException error) {
      System.err.println("error: " + error.getMessage() + "\n" + USAGE);
      code = 2;
    }
    REPORTED.complete(null);
    System.exit(code);
  }

  private static void generate(String[] arguments) throws IOException {
    if (arguments.length == 0 || arguments[0].startsWith("--")) {
      throw new IllegalArgumentException("give one PROMPT");
    }
    Request request = new Request(arguments[0]);
    Map<String, String> options = new HashMap<>();
    options.putAll(Map.of("--url", "127.0.0.1:8001", "--timeout", "600", "--out", "clip.npy"));
    for (int i = 1; i < arguments.length; i += 2) {
      read(arguments[i], i + 1 < arguments.length ? arguments[i + 1] : "", options, request);
    }
    Path out = Path.of(options.get("--out"));
    if (!out.toString().endsWith(".npy")) {
      throw new IllegalArgumentException("--out must end in .npy");
    }
    Duration timeout = Duration.ofMillis((long) (1000 * Double.parseDouble(options.get("--timeout"))));
    Thread caller = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> cancel(caller)));
    String token = System.getenv("UNSEE_TOKEN");
    try (Client client = new Client(options.get("--url"), token, credentials())) {
      Clip clip = client.generate(request, timeout, Generate::show);
      Files.write(out, npy(clip));
      Path record = Path.of(out.toString().replaceAll("npy$", "json"));
      Files.writeString(record, clip.record().json() + "\n");
      System.out.println(out);
    }
  }

  private static void show(Progress progress) {
    System.err.printf("step %d of %d%n", progress.step(), progress.numInferenceSteps());
  }

  private static void read(String name, String value, Map<String, String> options, Request request) {
    if (options.replace(name, value) == null) {
      try {
        String input = name.replaceFirst("^--", "").replace('-', '_');
        request.set(input.equals("steps") ? "num_inference_steps" : input, value);
      } catch (IllegalArgumentException error) {
        throw new IllegalArgumentException(name + " " + value + ": " + error.getMessage(), error);
      }
    }
  }

  /** Ctrl-C cancels the request on the server and leaves time to say so. */
  private static void cancel(Thread caller) {
    caller.interrupt();
    REPORTED.completeOnTimeout(null, 2, TimeUnit.SECONDS).join();
  }

  private static ChannelCredentials credentials() throws IOException {
    String authority = System.getenv("UNSEE_CA_CERTIFICATE");
    return authority == null
        ? InsecureChannelCredentials.create()
        : TlsChannelCredentials.newBuilder().trustManager(new File(authority)).build();
  }

  /** NumPy's file format, version 1.0, with a head of 128 bytes. */
  private static byte[] npy(Clip clip) {
    String shape = Arrays.toString(clip.shape()).replace('[', '(').replace(']', ')');
    String head = "{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + "}";
    return ByteBuffer.allocate(128 + clip.frames().length)
        .put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0})
        .put("%-117s\n".formatted(head).getBytes(StandardCharsets.US_ASCII))
        .put(clip.frames())
        .array();
  }
}
