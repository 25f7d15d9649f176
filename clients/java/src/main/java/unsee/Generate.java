package unsee;

import com.google.gson.GsonBuilder;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import unsee.Client.GenerationException;
import unsee.TextToVideo.Clip;
import unsee.TextToVideo.Event;
import unsee.TextToVideo.Progress;
import unsee.TextToVideo.Request;

/** An example: asks a server for a clip, streams progress to stderr, saves the clip and its record. */
public final class Generate {
  private static final String USAGE =
      """
      usage: unsee.Generate PROMPT [--policy NAME] [--seed N] [--steps N] [--url HOST:PORT]
                            [--timeout SECONDS] [--out clip.npy]
      UNSEE_TOKEN and UNSEE_CA_CERTIFICATE are read from the environment.""";

  /** gRPC's own log, kept here lest it is collected: the error says all that a caller needs. */
  private static final Logger GRPC = Logger.getLogger("io.grpc");

  private static final CountDownLatch TOLD = new CountDownLatch(1);

  private Generate() {}

  public static void main(String[] arguments) throws IOException {
    GRPC.setLevel(Level.OFF);
    int code = 0;
    try {
      generate(arguments);
    } catch (GenerationException error) {
      System.err.println("error: " + error.status() + ": " + error.getMessage());
      code = 3;
    } catch (IllegalArgumentException error) {
      System.err.println("error: " + error.getMessage() + "\n" + USAGE);
      code = 2;
    }
    TOLD.countDown();
    System.exit(code);
  }

  private static void generate(String[] arguments) throws IOException {
    Map<String, String> values = values(arguments);
    String out = values.get("out");
    if (!out.endsWith(".npy")) {
      throw new IllegalArgumentException("--out must end in .npy");
    }
    try (Client client = new Client(values.get("url"), connection(values));
        Client.Events events = client.stream(request(values))) {
      cancelWhenInterrupted(events);
      while (events.hasNext()) {
        Event event = events.next();
        if (event instanceof Progress progress) {
          System.err.printf("step %d of %d%n", progress.step(), progress.numInferenceSteps());
        } else if (event instanceof Clip clip) {
          save(Path.of(out), npy(clip));
          save(Path.of(out.replaceAll("npy$", "json")), json(clip));
          System.out.println(out);
        }
      }
    }
  }

  private static Map<String, String> values(String[] arguments) {
    if (arguments.length == 0 || arguments[0].startsWith("--")) {
      throw new IllegalArgumentException("give one PROMPT");
    }
    Map<String, String> values = new HashMap<>();
    values.putAll(Map.of("url", "127.0.0.1:8001", "timeout", "600", "out", "clip.npy"));
    values.put("prompt", arguments[0]);
    for (int i = 1; i < arguments.length; i += 2) {
      if (!arguments[i].matches("--(policy|seed|steps|url|timeout|out)")
          || i + 1 == arguments.length) {
        throw new IllegalArgumentException("there is no option " + arguments[i] + " with a value");
      }
      values.put(arguments[i].substring(2), arguments[i + 1]);
    }
    return values;
  }

  private static Request request(Map<String, String> values) {
    Request request = new Request(values.get("prompt"));
    if (values.containsKey("policy")) {
      request.policy(values.get("policy"));
    }
    if (values.containsKey("seed")) {
      request.seed(number(values, "seed", Long::parseLong));
    }
    if (values.containsKey("steps")) {
      request.numInferenceSteps(number(values, "steps", Integer::parseInt));
    }
    return request;
  }

  private static <T> T number(Map<String, String> values, String name, Function<String, T> read) {
    try {
      return read.apply(values.get(name));
    } catch (NumberFormatException error) {
      throw new IllegalArgumentException(
          "--" + name + " must be a number, not " + values.get(name), error);
    }
  }

  /** Ctrl-C cancels the request on the server and leaves time to say so. */
  private static void cancelWhenInterrupted(Client.Events events) {
    Runnable cancel =
        () -> {
          events.close();
          try {
            TOLD.await(2, TimeUnit.SECONDS);
          } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
          }
        };
    Runtime.getRuntime().addShutdownHook(new Thread(cancel));
  }

  private static Client.Options connection(Map<String, String> values) {
    double seconds = number(values, "timeout", Double::parseDouble);
    Client.Options options =
        new Client.Options().timeout(Duration.ofMillis((long) (1000 * seconds)));
    Map<String, String> environment = System.getenv();
    if (environment.containsKey("UNSEE_TOKEN")) {
      options.token(environment.get("UNSEE_TOKEN"));
    }
    if (environment.containsKey("UNSEE_CA_CERTIFICATE")) {
      options.caCertificate(new File(environment.get("UNSEE_CA_CERTIFICATE")));
    }
    return options;
  }

  /** NumPy's file format, version 1.0: its head is padded to 64 bytes. */
  private static byte[] npy(Clip clip) {
    String shape =
        Arrays.stream(clip.shape()).mapToObj(Integer::toString).collect(Collectors.joining(", "));
    String head = "{'descr': '|u1', 'fortran_order': False, 'shape': (" + shape + "), }";
    int length = (head.length() + 11 + 63) / 64 * 64 - 10;
    ByteArrayOutputStream file = new ByteArrayOutputStream();
    file.writeBytes(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (byte) length, 0});
    String padded = head + " ".repeat(length - 1 - head.length()) + "\n";
    file.writeBytes(padded.getBytes(StandardCharsets.US_ASCII));
    file.writeBytes(clip.frames());
    return file.toByteArray();
  }

  private static byte[] json(Clip clip) {
    GsonBuilder builder = new GsonBuilder().setPrettyPrinting().disableHtmlEscaping();
    String text = builder.serializeNulls().create().toJson(clip.record().json());
    return (text + "\n").getBytes(StandardCharsets.UTF_8);
  }

  private static void save(Path file, byte[] data) throws IOException {
    Path part = Path.of(file + ".part");
    Files.write(part, data);
    Files.move(part, file, StandardCopyOption.REPLACE_EXISTING);
  }
}
