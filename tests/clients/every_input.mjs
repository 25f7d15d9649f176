// Sends a request that uses every input, and prints how it ended.
import { Client, GenerationError } from "./client.js";

const token = process.env.UNSEE_TOKEN;
const client = new Client(process.argv[2], token ? { token } : {});
try {
  const request = {
    prompt: "ein Kätzchen 🐈",
    negative_prompt: "",
    policy: "family",
    revision: 2,
    seed: 2 ** 53 - 1,
    num_inference_steps: 3,
    guidance_scale: 7.5,
    num_frames: 2,
    height: 16,
    width: 24,
    scheduler: "DDIMScheduler",
    acceleration: "fast",
    stream_frames: true,
  };
  for await (const event of client.stream(request)) {
    const { type, shape, frames } = event;
    if (type === "part") {
      console.log(`part ${event.first_frame} of ${event.num_frames}: ${shape.join(" ")}`);
    } else if (type === "result") {
      const sum = frames.reduce((total, value) => total + value, 0);
      console.log(`${shape.join(" ")} ${sum} ${event.record.prompt}`);
    }
  }
} catch (error) {
  if (!(error instanceof GenerationError)) throw error;
  console.log(`${error.status} ${error.retryAfterMs} ${error.message}`);
} finally {
  client.close();
}
