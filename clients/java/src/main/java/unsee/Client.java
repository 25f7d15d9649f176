package unsee;

import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferResponse;
import inference.GrpcService.ModelStreamInferResponse;
import inference.GrpcService.ServerLiveRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLException;
import unsee.TextToVideo.Clip;
import unsee.TextToVideo.Event;
import unsee.TextToVideo.GenerationRecord;
import unsee.TextToVideo.Progress;
import unsee.TextToVideo.Request;
import unsee.TextToVideo.Status;
import unsee.TextToVideo.Tensor;

/**
 * A client of text_to_video: streams progress and the clip over gRPC, with typed errors. Usable from
 * several threads.
 *
 * <p>The types of requests, events and statuses are generated (TextToVideo), the messages too (by
 * protoc). It knows no command line and writes no files.
 */
public final class Client implements AutoCloseable {
  private static final int MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
  private static final Pattern ERROR_TEXT = Pattern.compile("([A-Z_]+): (.+)", Pattern.DOTALL);
  private static final Pattern LOOPBACK =
      Pattern.compile("(localhost|127(\\.\\d+){3}|\\[::1\\]):\\d+");
  private static final Metadata.Key<String> AUTHORIZATION = key("authorization");
  private static final Metadata.Key<String> RETRY_AFTER = key("retry-after-ms");

  /** One request, many answers: all that a caller of text_to_video makes of the stream. */
  private static final MethodDescriptor<ModelInferRequest, ModelStreamInferResponse> ASK =
      GRPCInferenceServiceGrpc.getModelStreamInferMethod().toBuilder()
          .setType(MethodDescriptor.MethodType.SERVER_STREAMING)
          .build();

  private final String url;
  private final Options options;
  private final ManagedChannel connection;
  private final Channel channel;

  /** A request that gets no clip: a status, and one sentence as the message. */
  public static final class GenerationException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final Status status;
    private final Duration retryAfter;

    GenerationException(Status status, String sentence, Duration retryAfter, Throwable cause) {
      super(sentence, cause);
      this.status = status;
      this.retryAfter = retryAfter;
    }

    GenerationException(Status status, String sentence) {
      this(status, sentence, null, null);
    }

    public Status status() {
      return status;
    }

    /** When asking a gateway again may help; null if it does not say. */
    public Duration retryAfter() {
      return retryAfter;
    }
  }

  /** How to connect; certificates and keys are PEM files. */
  public static final class Options {
    private String token;
    private boolean tls;
    private File caCertificate;
    private File clientCertificate;
    private File clientKey;
    private Duration timeout = Duration.ofSeconds(600);
    private Duration connectTimeout = Duration.ofSeconds(10);

    /** What a gateway knows the caller by. */
    public Options token(String token) {
      this.token = token;
      return this;
    }

    /** Encrypts; who signed the server's certificate must be among the roots that Java knows. */
    public Options tls() {
      this.tls = true;
      return this;
    }

    /** Encrypts; this authority signed the server's certificate. */
    public Options caCertificate(File caCertificate) {
      this.caCertificate = caCertificate;
      return tls();
    }

    /** What a gateway knows the caller by; goes with TLS. */
    public Options clientCertificate(File certificate, File key) {
      this.clientCertificate = certificate;
      this.clientKey = key;
      return this;
    }

    /** How long one clip may take in all. */
    public Options timeout(Duration timeout) {
      this.timeout = timeout;
      return this;
    }

    /** How long reaching the server may take. */
    public Options connectTimeout(Duration connectTimeout) {
      this.connectTimeout = connectTimeout;
      return this;
    }
  }

  /** Connects to `url`, a host and gRPC port. Throws GenerationException for wrong options. */
  public Client(String url, Options options) {
    this.url = url;
    this.options = options;
    NettyChannelBuilder builder =
        NettyChannelBuilder.forTarget(url).maxInboundMessageSize(MAX_MESSAGE_BYTES);
    Metadata metadata = new Metadata();
    if (options.token != null) {
      if (!options.token.matches("[\\x21-\\x7e]+")) {
        throw invalid("the token must be printable ASCII without spaces");
      }
      if (!options.tls && !LOOPBACK.matcher(url).matches()) {
        throw invalid("the token would travel to " + url + " unencrypted; switch TLS on");
      }
      metadata.put(AUTHORIZATION, "Bearer " + options.token);
    }
    if (options.clientCertificate != null && !options.tls) {
      throw invalid("clientCertificate goes with TLS: give caCertificate or tls");
    }
    if (options.tls) {
      encrypt(builder);
    } else {
      builder.usePlaintext();
    }
    this.connection = builder.build();
    this.channel =
        ClientInterceptors.intercept(
            connection, MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  /** The clip of `stream(request)`; `onProgress` sees each step. Throws GenerationException. */
  public Clip generate(Request request, Consumer<Progress> onProgress) {
    try (Events events = stream(request)) {
      while (true) {
        Event event = events.next();
        if (event instanceof Clip clip) {
          return clip;
        }
        onProgress.accept((Progress) event);
      }
    }
  }

  /**
   * A Progress per evaluation of the video model and last the Clip; closing it cancels the request
   * on the server. Throws GenerationException, here and in `next`.
   */
  public Events stream(Request request) {
    long deadline = System.nanoTime() + options.timeout.toNanos();
    connect();
    return new Events(message(request), deadline - System.nanoTime());
  }

  /** Closes the connection and cancels what is still in flight on it. */
  @Override
  public void close() {
    connection.shutdownNow();
  }

  /** The events of one request; `close` may be called from another thread. */
  public final class Events implements Iterator<Event>, AutoCloseable {
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final Iterator<ModelStreamInferResponse> answers;
    private boolean ended;

    private Events(ModelInferRequest request, long nanoseconds) {
      CallOptions call =
          CallOptions.DEFAULT.withDeadlineAfter(nanoseconds, TimeUnit.NANOSECONDS);
      Context before = context.attach();
      try {
        answers = ClientCalls.blockingServerStreamingCall(channel, ASK, call, request);
      } finally {
        context.detach(before);
      }
    }

    @Override
    public boolean hasNext() {
      return !ended;
    }

    @Override
    public Event next() {
      if (ended) {
        throw new NoSuchElementException("the clip was the last event");
      }
      ended = true;
      Event event = read();
      ended = event instanceof Clip;
      return event;
    }

    @Override
    public void close() {
      context.cancel(null);
    }

    private Event read() {
      try {
        while (answers.hasNext()) {
          ModelStreamInferResponse answer = answers.next();
          if (!answer.getErrorMessage().isEmpty()) {
            readToTheEnd();
            throw rejected(answer.getErrorMessage());
          }
          Event event = readResponse(answer.getInferResponse());
          if (event instanceof Clip) {
            readToTheEnd();
          }
          if (event != null) {
            return event;
          }
        }
      } catch (StatusRuntimeException error) {
        throw translated(error);
      }
      throw new GenerationException(Status.INTERNAL, url + " ended the stream without a clip");
    }

    /** Cancelled after its last answer, a stream would stay in Triton for good. */
    private void readToTheEnd() {
      try {
        answers.forEachRemaining(answer -> {});
      } catch (StatusRuntimeException error) {
        return; // the answer is there all the same
      }
    }
  }

  private void encrypt(NettyChannelBuilder builder) {
    try {
      SslContextBuilder context = GrpcSslContexts.forClient();
      if (options.caCertificate != null) {
        context.trustManager(options.caCertificate);
      }
      if (options.clientCertificate != null) {
        context.keyManager(options.clientCertificate, options.clientKey);
      }
      builder.sslContext(context.build());
    } catch (SSLException | IllegalArgumentException | UnsupportedOperationException error) {
      String why = "TLS cannot be used with these files: " + error.getMessage();
      throw new GenerationException(Status.INVALID_ARGUMENT, why, null, error);
    }
  }

  /** A refusal comes back at once and silence after a while, unlike in a long request. */
  private void connect() {
    try {
      GRPCInferenceServiceGrpc.newBlockingStub(channel)
          .withDeadlineAfter(options.connectTimeout.toNanos(), TimeUnit.NANOSECONDS)
          .serverLive(ServerLiveRequest.getDefaultInstance());
    } catch (StatusRuntimeException error) {
      Code code = error.getStatus().getCode();
      if (code == Code.UNAVAILABLE || code == Code.DEADLINE_EXCEEDED) {
        String why = "no server answers at " + url;
        throw new GenerationException(Status.UNAVAILABLE, why, null, error);
      }
    }
  }

  private static ModelInferRequest message(Request request) {
    ModelInferRequest.Builder message =
        ModelInferRequest.newBuilder().setModelName(TextToVideo.MODEL);
    for (var entry : request.tensors().entrySet()) {
      message
          .addInputsBuilder()
          .setName(entry.getKey())
          .setDatatype(entry.getValue().datatype())
          .addShape(1);
      message.addRawInputContents(encoded(entry.getValue()));
    }
    return message.build();
  }

  private static ByteString encoded(Tensor tensor) {
    ByteBuffer data = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
    if (tensor.value() instanceof Long value) {
      data.putLong(value);
    } else if (tensor.value() instanceof Integer value) {
      data.putInt(value);
    } else if (tensor.value() instanceof Float value) {
      data.putFloat(value);
    } else {
      ByteString text = ByteString.copyFromUtf8((String) tensor.value());
      return ByteString.copyFrom(data.putInt(text.size()).flip()).concat(text);
    }
    return ByteString.copyFrom(data.flip());
  }

  /** What a response says; null when it carries no event (the stream's empty end). */
  private static Event readResponse(ModelInferResponse response) {
    JsonObject event = null;
    ByteString frames = ByteString.EMPTY;
    int[] shape = {};
    for (int i = 0; i < response.getOutputsCount(); i++) {
      ByteString raw =
          i < response.getRawOutputContentsCount()
              ? response.getRawOutputContents(i)
              : ByteString.EMPTY;
      if (response.getOutputs(i).getName().equals("event")) {
        event = json(raw);
      } else if (response.getOutputs(i).getName().equals("frames")) {
        frames = raw;
        shape = response.getOutputs(i).getShapeList().stream().mapToInt(Long::intValue).toArray();
      }
    }
    if (event == null) {
      return null;
    }
    try {
      if (event.get("type").getAsString().equals("progress")) {
        return Progress.of(event);
      }
      GenerationRecord record = GenerationRecord.of(event.getAsJsonObject("record"));
      if (shape.length != 4 || Arrays.stream(shape).reduce(1, (a, b) -> a * b) != frames.size()) {
        throw new IllegalArgumentException("the frames have the shape " + Arrays.toString(shape));
      }
      return new Clip(frames.toByteArray(), shape, record);
    } catch (RuntimeException error) {
      throw unreadable(error);
    }
  }

  private static JsonObject json(ByteString raw) {
    try {
      String text = raw.substring(4).toString(StandardCharsets.UTF_8);
      return JsonParser.parseString(text).getAsJsonObject();
    } catch (JsonParseException | IllegalStateException | IndexOutOfBoundsException error) {
      throw unreadable(error);
    }
  }

  private GenerationException translated(StatusRuntimeException error) {
    Status status = status(error.getStatus().getCode().name());
    String said = error.getStatus().getDescription();
    String after =
        error.getTrailers() == null ? null : error.getTrailers().get(RETRY_AFTER);
    Duration retryAfter =
        after == null || !after.matches("\\d{1,9}") ? null : Duration.ofMillis(Long.parseLong(after));
    String sentence = said == null ? "no reason given" : said;
    if (status == Status.CANCELLED) {
      sentence = "the request to " + url + " was cancelled";
    } else if (status == Status.DEADLINE_EXCEEDED && retryAfter == null) {
      sentence = "no clip from " + url + " within " + options.timeout.toMillis() + " ms";
    }
    return new GenerationException(status, sentence, retryAfter, error);
  }

  /** Triton's own refusals carry no status; those of text_to_video do. */
  private static GenerationException rejected(String text) {
    Matcher match = ERROR_TEXT.matcher(text);
    return match.matches() && status(match.group(1)) != Status.UNKNOWN
        ? new GenerationException(status(match.group(1)), match.group(2))
        : new GenerationException(Status.UNKNOWN, text);
  }

  private static Status status(String name) {
    return Arrays.stream(Status.values())
        .filter(status -> status.name().equals(name))
        .findAny()
        .orElse(Status.UNKNOWN);
  }

  private static GenerationException unreadable(Exception error) {
    String why = "the answer is not one of " + TextToVideo.MODEL + ": " + error.getMessage();
    return new GenerationException(Status.INTERNAL, why, null, error);
  }

  private static GenerationException invalid(String sentence) {
    return new GenerationException(Status.INVALID_ARGUMENT, sentence);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }
}
