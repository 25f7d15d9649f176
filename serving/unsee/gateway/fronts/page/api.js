// The gateway's routes: what to ask, with which token, and how its events are read.
// Knows nothing of what is shown.

const TOKEN = "unsee-token"; // in sessionStorage: of this tab, gone when it is closed
const CLIP = "/v2/models/text_to_video/generate_stream";
const SILENT = "The gateway does not answer. Is it running, and is this its address?";

/** A sentence of the server's, and its HTTP status (0 if nobody answered). */
export class Refused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** The policies that the visitor may use, and the base's defaults and limits if known. */
export async function policies() {
  return (await ask("/v2/policies")).json();
}

/** The report page of a policy's active revision, as text. */
export async function report(path) {
  return (await ask(path)).text();
}

/** Makes a clip: calls onProgress(step, steps), then returns { record, npy, mp4 }.
 *
 * npy and mp4 are Uint8Arrays; mp4 is null if the gateway could not write one. */
export async function generate(request, signal, onProgress) {
  const response = await ask(CLIP, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...request, files: ["mp4"] }),
    signal,
  });
  for await (const { name, data } of events(response.body)) {
    if (name === "progress") onProgress(data.step, data.num_inference_steps);
    if (name === "error") throw new Refused(data.message, 200);
    if (name === "result") {
      const mp4 = data.files?.find((file) => file.format === "mp4");
      const video = mp4 ? bytes(mp4.base64) : null;
      return { record: data.record, npy: bytes(data.clip.base64), mp4: video };
    }
  }
  throw new Refused("The stream ended without a clip; try again.", 200);
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(SILENT, 0);
  }
  if (!response.ok) throw new Refused(await sentence(response), response.status);
  return response;
}

async function sentence(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The gateway answered with HTTP ${response.status}.`;
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await read(reader);
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const [name, data] = block.split("\n");
        yield { name: name.slice("event: ".length), data: JSON.parse(data.slice("data: ".length)) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The connection to the gateway broke; try again.", 0);
  }
}

function bytes(base64) {
  const text = atob(base64);
  const content = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) content[k] = text.charCodeAt(k);
  return content;
}
