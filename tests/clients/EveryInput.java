import io.grpc.InsecureChannelCredentials;
import java.time.Duration;
import unsee.Client;
import unsee.TextToVideo.Clip;
import unsee.TextToVideo.GenerationException;
import unsee.TextToVideo.Request;

/** Sends a request that uses every input, and prints how it ended. */
class EveryInput {
  public static void main(String[] arguments) {
    String token = System.getenv("UNSEE_TOKEN");
    Request request =
        new Request("ein Kätzchen 🐈")
            .negativePrompt("")
            .policy("family")
            .revision(2)
            .seed((1L << 53) - 1)
            .numInferenceSteps(3)
            .guidanceScale(7.5f)
            .numFrames(2)
            .height(16)
            .width(24)
            .scheduler("DDIMScheduler")
            .acceleration("fast")
            .streamFrames(true);
    var out = new java.io.PrintStream(System.out, true, java.nio.charset.StandardCharsets.UTF_8);
    try (Client client = new Client(arguments[0], token, InsecureChannelCredentials.create())) {
      Clip clip =
          client.generate(
              request,
              Duration.ofSeconds(60),
              progress -> {},
              part ->
                  out.printf(
                      "part %d of %d: %s%n", part.firstFrame(), part.numFrames(), text(part.shape())));
      int sum = 0;
      for (byte value : clip.frames()) {
        sum += Byte.toUnsignedInt(value);
      }
      out.printf("%s %d %s%n", text(clip.shape()), sum, clip.record().prompt());
    } catch (GenerationException error) {
      Object after = error.retryAfter() == null ? "undefined" : error.retryAfter().toMillis();
      out.println(error.status() + " " + after + " " + error.getMessage());
    }
  }

  private static String text(int[] shape) {
    return "%d %d %d %d".formatted(shape[0], shape[1], shape[2], shape[3]);
  }
}
