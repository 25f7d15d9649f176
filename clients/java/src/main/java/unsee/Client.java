package unsee;

import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelStreamInferResponse;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.netty.channel.ChannelOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import unsee.TextToVideo.*;

/**
 * A client of text_to_video: streams progress and the clip over gRPC, with typed errors. Usable from
 * several threads.
 *
 * <p>What the contract says of requests, answers and statuses is generated (TextToVideo), the messages
 * too (by protoc).
 */
public final class Client implements AutoCloseable {
  private static final int CONNECT_TIMEOUT_MS = 10_000;
  private static final int MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
  private static final String OWN_DEADLINE = "(?is).*deadline.*exceeded.*"; // as gRPC says it
  private static final String LOOPBACK = "(localhost|127(\\.\\d+){3}|\\[::1\\]):\\d+";
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> TAKES_BYTES =
      Metadata.Key.of("max-receive-bytes", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> RETRY_AFTER =
      Metadata.Key.of("retry-after-ms", Metadata.ASCII_STRING_MARSHALLER);

  private final String url;
  private final ManagedChannel channel;

  /**
   * Connects to `url`, a host and gRPC port.
   *
   * @param token what a gateway knows the caller by; null for none
   * @param credentials gRPC's own: TlsChannelCredentials encrypts; InsecureChannelCredentials does
   *     not, and a token then goes to this machine only
   */
  public Client(String url, String token, ChannelCredentials credentials) {
    Metadata metadata = new Metadata();
    metadata.put(TAKES_BYTES, String.valueOf(MAX_MESSAGE_BYTES));
    if (token != null) {
      if (!token.matches("[\\x21-\\x7e]+")) {
        throw invalid("the token must be printable ASCII without spaces");
      }
      if (credentials instanceof InsecureChannelCredentials && !url.matches(LOOPBACK)) {
        throw invalid("the token would travel to " + url + " unencrypted; give TLS credentials");
      }
      metadata.put(AUTHORIZATION, "Bearer " + token);
    }
    this.url = url;
    this.channel =
        NettyChannelBuilder.forTarget(url, credentials)
            .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS, CONNECT_TIMEOUT_MS)
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            .intercept(MetadataUtils.newAttachHeadersInterceptor(metadata))
            .build();
  }

  /**
   * The clip of a request, within `timeout`; `onProgress` sees each evaluation of the video model.
   *
   * <p>Interrupting the thread, or cancelling gRPC's Context, cancels the request on the server; so
   * does an exception of a consumer. Throws GenerationException.
   */
  public Clip generate(Request request, Duration timeout, Consumer<Progress> onProgress) {
    return generate(request, timeout, onProgress, part -> {});
  }

  /** The same; of a request with `streamFrames` `onPart` sees frames as soon as they are decoded. */
  public Clip generate(
      Request request, Duration timeout, Consumer<Progress> onProgress, Consumer<Part> onPart) {
    CallOptions options =
        CallOptions.DEFAULT.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
    ClientCall<ModelInferRequest, ModelStreamInferResponse> call =
        channel.newCall(GRPCInferenceServiceGrpc.getModelStreamInferMethod(), options);
    List<Part> parts = new ArrayList<>();
    Clip clip = null;
    GenerationException refusal = null;
    try {
      Iterator<ModelStreamInferResponse> answers =
          ClientCalls.blockingServerStreamingCall(call, request.message());
      while (answers.hasNext()) { // to its end: cancelled, it would stay in Triton for good
        ModelStreamInferResponse answer = answers.next();
        Event event = TextToVideo.read(answer.getInferResponse(), parts);
        if (!answer.getErrorMessage().isEmpty()) {
          refusal = GenerationException.read(answer.getErrorMessage());
        } else if (event instanceof Progress progress) {
          onProgress.accept(progress);
        } else if (event instanceof Part part) {
          parts.add(part);
          onPart.accept(part);
        } else if (event instanceof Clip last) {
          clip = last;
        }
      }
    } catch (StatusRuntimeException error) {
      refusal = refusal == null ? translated(error, timeout) : refusal;
    } finally {
      call.cancel("the caller left", null);
    }
    if (clip == null) {
      String none = url + " ended the stream without a clip";
      throw refusal == null ? new GenerationException(Status.INTERNAL, none) : refusal;
    }
    return clip;
  }

  /** Closes the connection and cancels what is still in flight on it. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  private GenerationException translated(StatusRuntimeException error, Duration timeout) {
    Status status = Status.of(error.getStatus().getCode().name());
    Throwable cause = error.getStatus().getCause(); // of what is not from a server
    String said = cause == null ? error.getStatus().getDescription() : cause.getMessage();
    String after = error.getTrailers() == null ? null : error.getTrailers().get(RETRY_AFTER);
    if (after != null && after.matches("\\d{1,9}")) {
      return new GenerationException(status, said, Duration.ofMillis(Long.parseLong(after)), error);
    }
    String sentence =
        switch (status) {
          case CANCELLED -> "the request to " + url + " was cancelled";
          case DEADLINE_EXCEEDED ->
              said == null || said.matches(OWN_DEADLINE)
                  ? "no clip from " + url + " within " + timeout.toMillis() + " ms"
                  : said; // of a gateway, which may give up at once
          case UNAVAILABLE -> "no server answers at " + url + ": " + said;
          default -> said == null ? "no reason given" : said;
        };
    return new GenerationException(status, sentence, null, error);
  }

  private static GenerationException invalid(String sentence) {
    return new GenerationException(Status.INVALID_ARGUMENT, sentence);
  }
}
