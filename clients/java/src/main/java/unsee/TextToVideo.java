// Generated from clients/contract/text_to_video.json by `make stubs`; do not edit.
package unsee;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.ByteString;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The contract of the model text_to_video: its request, events, record and statuses. */
public final class TextToVideo {
  public static final String MODEL = "text_to_video";

  private TextToVideo() {}

  /** What to generate; what is left out is the server's choice, and the record says what it chose. */
  public static final class Request {
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();

    /** What the clip should show; a prompt of more tokens than the text encoder takes is refused, never cut. */
    public Request(String prompt) {
      put("prompt", "BYTES", text(prompt));
    }

    /** What the clip should not show. */
    public Request negativePrompt(String negativePrompt) {
      return put("negative_prompt", "BYTES", text(negativePrompt));
    }

    /** The concept policy to apply; required if there is no default (default: that of the tenant or the repository). */
    public Request policy(String policy) {
      return put("policy", "BYTES", text(policy));
    }

    /** One of the policy's eligible revisions (default: the active one). */
    public Request revision(long revision) {
      return put("revision", "INT64", bytes(8).putLong(revision));
    }

    /** Seed of the noise; equal requests with equal seeds give equal bytes (default: drawn, and recorded). */
    public Request seed(long seed) {
      if (seed < 0) {
        String why = "seed must be 0 or more, not " + seed;
        throw new GenerationException(Status.INVALID_ARGUMENT, why);
      }
      return put("seed", "INT64", bytes(8).putLong(seed));
    }

    /** How many steps the scheduler takes (default: the base's). */
    public Request numInferenceSteps(int numInferenceSteps) {
      return put("num_inference_steps", "INT32", bytes(4).putInt(numInferenceSteps));
    }

    /** How closely to follow the prompt (classifier-free guidance); 1 or less switches guidance off (default: the base's). */
    public Request guidanceScale(float guidanceScale) {
      return put("guidance_scale", "FP32", bytes(4).putFloat(guidanceScale));
    }

    /** Length of the clip in frames (default: the base's). */
    public Request numFrames(int numFrames) {
      return put("num_frames", "INT32", bytes(4).putInt(numFrames));
    }

    /** Height of the clip in pixels (default: the base's). */
    public Request height(int height) {
      return put("height", "INT32", bytes(4).putInt(height));
    }

    /** Width of the clip in pixels (default: the base's). */
    public Request width(int width) {
      return put("width", "INT32", bytes(4).putInt(width));
    }

    /** Name of a diffusers scheduler that the server offers, such as DDIMScheduler (default: the base's). */
    public Request scheduler(String scheduler) {
      return put("scheduler", "BYTES", text(scheduler));
    }

    /** How far to shorten the work: in some steps the video model is extrapolated instead of evaluated, which gives a similar clip sooner: none, balanced, fast. */
    public Request acceleration(String acceleration) {
      return put("acceleration", "BYTES", text(acceleration));
    }

    /** Send the frames in parts, each as soon as it is decoded, instead of all at the end; a base whose decoder gives all frames at once sends one part. */
    public Request streamFrames(boolean streamFrames) {
      return put("stream_frames", "BOOL", bytes(1).put((byte) (streamFrames ? 1 : 0)));
    }

    /**
     * One of these inputs by the model's name for it, its value as text: for command lines and forms.
     * Throws IllegalArgumentException for other names and for what is no number.
     */
    public Request set(String name, String value) {
      return switch (name) {
        case "negative_prompt" -> negativePrompt(value);
        case "policy" -> policy(value);
        case "revision" -> revision(Long.parseLong(value));
        case "seed" -> seed(Long.parseLong(value));
        case "num_inference_steps" -> numInferenceSteps(Integer.parseInt(value));
        case "guidance_scale" -> guidanceScale(Float.parseFloat(value));
        case "num_frames" -> numFrames(Integer.parseInt(value));
        case "height" -> height(Integer.parseInt(value));
        case "width" -> width(Integer.parseInt(value));
        case "scheduler" -> scheduler(value);
        case "acceleration" -> acceleration(value);
        case "stream_frames" -> streamFrames(flag(value));
        default -> throw new IllegalArgumentException("there is no input " + name);
      };
    }

    /** KServe's message, of the inputs that were given. */
    ModelInferRequest message() {
      ModelInferRequest.Builder message = ModelInferRequest.newBuilder().setModelName(MODEL);
      tensors.forEach(
          (name, tensor) -> {
            message.addInputsBuilder().setName(name).setDatatype(tensor.datatype()).addShape(1);
            message.addRawInputContents(tensor.raw());
          });
      return message.build();
    }

    private Request put(String name, String datatype, ByteBuffer raw) {
      tensors.put(name, new Tensor(datatype, ByteString.copyFrom(raw.flip())));
      return this;
    }

    private static boolean flag(String value) {
      if (!value.matches("true|false")) {
        throw new IllegalArgumentException("it must be true or false");
      }
      return value.equals("true");
    }

    private static ByteBuffer bytes(int size) {
      return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static ByteBuffer text(String value) {
      byte[] utf8 = value.getBytes(UTF_8);
      return bytes(4 + utf8.length).putInt(utf8.length).put(utf8);
    }
  }

  private record Tensor(String datatype, ByteString raw) {}

  /** What the server streams. */
  public sealed interface Event permits Progress, Part, Clip {}

  /** Sent after every evaluation of the video model. */
  public record Progress(long step, long numInferenceSteps) implements Event {
    static Progress of(JsonObject json) {
      return new Progress(
          required(json, "step").getAsLong(),
          required(json, "num_inference_steps").getAsLong());
    }
  }

  /** Sent with `stream_frames` as soon as frames are decoded, together with them. */
  public record Part(long firstFrame, long numFrames, double fps, byte[] frames, int[] shape) implements Event {
    static Part of(JsonObject json, ByteString frames, long[] shape) {
      return new Part(
          required(json, "first_frame").getAsLong(),
          required(json, "num_frames").getAsLong(),
          required(json, "fps").getAsDouble(),
          sized(frames, shape),
          sizes(shape));
    }
  }

  /** The last event: frames are UINT8 [num_frames, height, width, 3], RGB, one after the other. */
  public record Clip(byte[] frames, int[] shape, GenerationRecord record) implements Event {}

  /**
   * The event in a response; null if it has none (the stream's empty end). A clip that brings no
   * frames is made of the `parts` that came before it. Throws GenerationException.
   */
  static Event read(ModelInferResponse response, List<Part> parts) {
    try {
      return event(response, parts);
    } catch (RuntimeException error) {
      String why = "the answer is not one of " + MODEL + ": " + error.getMessage();
      throw new GenerationException(Status.INTERNAL, why, null, error);
    }
  }

  private static Event event(ModelInferResponse response, List<Part> parts) {
    ByteString event = content(response, "event");
    ByteString frames = content(response, "frames");
    if (event == null) {
      return null;
    }
    JsonObject said = JsonParser.parseString(event.substring(4).toStringUtf8()).getAsJsonObject();
    String type = required(said, "type").getAsString();
    if (type.equals("progress")) {
      return Progress.of(said);
    }
    if (type.equals("part")) {
      return Part.of(said, frames, shape(response));
    }
    GenerationRecord record = GenerationRecord.of(required(said, "record").getAsJsonObject());
    long[] shape = {record.numFrames(), record.height(), record.width(), 3};
    if (frames == null) {
      frames = ByteString.copyFrom(parts.stream().map(p -> ByteString.copyFrom(p.frames())).toList());
    }
    return new Clip(sized(frames, shape), sizes(shape), record);
  }

  private static byte[] sized(ByteString frames, long[] shape) {
    if (frames == null || frames.size() != Arrays.stream(shape).reduce(1, (a, b) -> a * b)) {
      throw new IllegalArgumentException("the frames do not have the shape " + Arrays.toString(shape));
    }
    return frames.toByteArray();
  }

  private static int[] sizes(long[] shape) {
    return Arrays.stream(shape).mapToInt(Math::toIntExact).toArray();
  }

  /** Of the output `frames`; empty if there is none. */
  private static long[] shape(ModelInferResponse response) {
    return response.getOutputsList().stream()
        .filter(output -> output.getName().equals("frames"))
        .flatMapToLong(output -> output.getShapeList().stream().mapToLong(Long::longValue))
        .toArray();
  }

  /** What made a clip; `json` has all that the server said, of which a newer one may say more. */
  public record GenerationRecord(
      String prompt,
      String negativePrompt,
      String policy,
      long revision,
      String editDigest,
      String base,
      String baseDigest,
      long seed,
      String scheduler,
      String acceleration,
      long numInferenceSteps,
      double guidanceScale,
      long numFrames,
      long height,
      long width,
      double fps,
      String startedAt,
      Map<String, Double> seconds,
      Map<String, String> graphs,
      JsonObject json) {
    static GenerationRecord of(JsonObject json) {
      return new GenerationRecord(
          required(json, "prompt").getAsString(),
          text(json, "negative_prompt", ""),
          required(json, "policy").getAsString(),
          required(json, "revision").getAsLong(),
          text(json, "edit_digest", null),
          required(json, "base").getAsString(),
          required(json, "base_digest").getAsString(),
          required(json, "seed").getAsLong(),
          required(json, "scheduler").getAsString(),
          text(json, "acceleration", "none"),
          required(json, "num_inference_steps").getAsLong(),
          required(json, "guidance_scale").getAsDouble(),
          required(json, "num_frames").getAsLong(),
          required(json, "height").getAsLong(),
          required(json, "width").getAsLong(),
          required(json, "fps").getAsDouble(),
          required(json, "started_at").getAsString(),
          each(json, "seconds", JsonElement::getAsDouble),
          each(json, "graphs", JsonElement::getAsString),
          json);
    }
  }

  /** How a request can fail: names of gRPC statuses. */
  public enum Status {
    /** The client cancelled, went away or read too slowly; work stops within one step. */
    CANCELLED,
    /** A text of Triton's own, which has no status: an input of the wrong type, say, or no such model. */
    UNKNOWN,
    /** An input is missing, of the wrong type or shape, or outside the limits. */
    INVALID_ARGUMENT,
    /** The caller's time ran out, or is shorter than such a clip takes. */
    DEADLINE_EXCEEDED,
    /** Unknown policy, or a revision that the policy does not offer. */
    NOT_FOUND,
    /** The caller may not use this policy, revision, model or method. */
    PERMISSION_DENIED,
    /** The caller's queue or the gateway's is full, or its turn would come too late for its deadline; `retry-after-ms` (HTTP: `Retry-After`) says when to ask again. */
    RESOURCE_EXHAUSTED,
    /** There is no such method. */
    UNIMPLEMENTED,
    /** The server failed; its log says why, the answer does not. */
    INTERNAL,
    /** The queue is full, a policy has no active revision, or nobody answers. */
    UNAVAILABLE,
    /** No token or certificate that the gateway knows. */
    UNAUTHENTICATED;

    /** The status of a name; UNKNOWN for other names. */
    static Status of(String name) {
      return Arrays.stream(values()).filter(s -> s.name().equals(name)).findAny().orElse(UNKNOWN);
    }
  }

  /** A request that gets no clip: a status, and one sentence as the message. */
  public static final class GenerationException extends RuntimeException {
    private static final long serialVersionUID = 1L;
    private static final Pattern TEXT = Pattern.compile("([A-Z_]+): (.+)", Pattern.DOTALL);

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

    /** What the model answers, `STATUS: sentence`; Triton's own refusals carry no status. */
    static GenerationException read(String text) {
      Matcher match = TEXT.matcher(text);
      Status status = match.matches() ? Status.of(match.group(1)) : Status.UNKNOWN;
      return new GenerationException(status, status == Status.UNKNOWN ? text : match.group(2));
    }

    public Status status() {
      return status;
    }

    /** When asking a gateway again may help; null if it does not say. */
    public Duration retryAfter() {
      return retryAfter;
    }
  }

  private static ByteString content(ModelInferResponse response, String name) {
    for (int i = 0; i < response.getRawOutputContentsCount(); i++) {
      if (response.getOutputs(i).getName().equals(name)) {
        return response.getRawOutputContents(i);
      }
    }
    return null;
  }

  private static JsonElement required(JsonObject json, String name) {
    if (!json.has(name)) {
      throw new IllegalArgumentException("the field " + name + " is missing");
    }
    return json.get(name);
  }

  private static String text(JsonObject json, String name, String otherwise) {
    return json.has(name) && !json.get(name).isJsonNull() ? json.get(name).getAsString() : otherwise;
  }

  private static <T> Map<String, T> each(JsonObject json, String name, Function<JsonElement, T> as) {
    Map<String, T> found = new LinkedHashMap<>();
    if (json.has(name)) {
      json.getAsJsonObject(name).entrySet().forEach(e -> found.put(e.getKey(), as.apply(e.getValue())));
    }
    return found;
  }
}
