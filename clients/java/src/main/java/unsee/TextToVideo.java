// Generated from clients/contract/text_to_video.json by `make stubs`; do not edit.
package unsee;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;

/** The contract of the model text_to_video: its request, events, record and statuses. */
public final class TextToVideo {
  public static final String MODEL = "text_to_video";

  private TextToVideo() {}

  /** What to generate; what is left out is the server's choice, and the record says what it chose. */
  public static final class Request {
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();

    /** What the clip should show; a prompt of more tokens than the text encoder takes is refused, never cut. */
    public Request(String prompt) {
      put("prompt", "BYTES", prompt);
    }

    /** What the clip should not show. */
    public Request negativePrompt(String negativePrompt) {
      return put("negative_prompt", "BYTES", negativePrompt);
    }

    /** The concept policy to apply (default: the tenant's or the repository's default policy; without one the request is refused). */
    public Request policy(String policy) {
      return put("policy", "BYTES", policy);
    }

    /** One of the policy's eligible revisions (default: the active one). */
    public Request revision(long revision) {
      return put("revision", "INT64", revision);
    }

    /** Where the noise starts: equal requests with equal seeds give equal bytes (default: drawn, and recorded). */
    public Request seed(long seed) {
      return put("seed", "INT64", seed);
    }

    /** How many steps the scheduler takes (default: the base's). */
    public Request numInferenceSteps(int numInferenceSteps) {
      return put("num_inference_steps", "INT32", numInferenceSteps);
    }

    /** How closely to follow the prompt (classifier-free guidance); 1 or less means without guidance (default: the base's). */
    public Request guidanceScale(float guidanceScale) {
      return put("guidance_scale", "FP32", guidanceScale);
    }

    /** Length of the clip in frames (default: the base's). */
    public Request numFrames(int numFrames) {
      return put("num_frames", "INT32", numFrames);
    }

    /** Height of the clip in pixels (default: the base's). */
    public Request height(int height) {
      return put("height", "INT32", height);
    }

    /** Width of the clip in pixels (default: the base's). */
    public Request width(int width) {
      return put("width", "INT32", width);
    }

    /** The sampler: a diffusers class name that the server offers, such as DDIMScheduler (default: the base's). */
    public Request scheduler(String scheduler) {
      return put("scheduler", "BYTES", scheduler);
    }

    /** Whether to make a similar clip sooner, by predicting what the video model would say in some steps instead of evaluating it: none, balanced, fast. */
    public Request acceleration(String acceleration) {
      return put("acceleration", "BYTES", acceleration);
    }

    /** The inputs that were given, by the model's names. */
    public Map<String, Tensor> tensors() {
      return Map.copyOf(tensors);
    }

    private Request put(String name, String datatype, Object value) {
      tensors.put(name, new Tensor(datatype, Objects.requireNonNull(value, name)));
      return this;
    }
  }

  /** An input of shape [1]: its Triton datatype and its value. */
  public record Tensor(String datatype, Object value) {}

  /** What the server streams. */
  public sealed interface Event permits Progress, Clip {}

  /** Sent after every evaluation of the video model. */
  public record Progress(long step, long numInferenceSteps) implements Event {
    static Progress of(JsonObject json) {
      return new Progress(
          required(json, "step").getAsLong(),
          required(json, "num_inference_steps").getAsLong());
    }
  }

  /** The last event: frames are UINT8 [num_frames, height, width, 3], RGB, one after the other. */
  public record Clip(byte[] frames, int[] shape, GenerationRecord record) implements Event {}

  /** What made a clip; `json` has all that the server said, of which a newer one may say more. */
  public record GenerationRecord(
      String prompt,
      String negativePrompt,
      String policy,
      long revision,
      String encoderDigest,
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
          text(json, "encoder_digest", null),
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
    /** The caller's queue or the gateway's is full; `retry-after-ms` (HTTP: `Retry-After`) says when to ask again. */
    RESOURCE_EXHAUSTED,
    /** There is no such method. */
    UNIMPLEMENTED,
    /** The server failed; its log says why, the answer does not. */
    INTERNAL,
    /** The queue is full, a policy has no active revision, or nobody answers. */
    UNAVAILABLE,
    /** No token or certificate that the gateway knows. */
    UNAUTHENTICATED
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
