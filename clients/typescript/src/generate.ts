#!/usr/bin/env node
// An example: asks a server for a clip, streams progress to stderr, saves the clip and its record.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Client, GenerationError, credentials } from "./client.js";
import type { Clip, ClientOptions, GenerateRequest } from "./client.js";

const USAGE = `usage: unsee-generate PROMPT [--policy NAME] [--seed N] [--steps N] [--url HOST:PORT]
                      [--timeout SECONDS] [--out clip.npy]
UNSEE_TOKEN and UNSEE_CA_CERTIFICATE are read from the environment.`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      policy: { type: "string" },
      seed: { type: "string" },
      steps: { type: "string" },
      url: { type: "string", default: "127.0.0.1:8001" },
      timeout: { type: "string", default: "600" },
      out: { type: "string", default: "clip.npy" },
    },
  });
  const [prompt] = positionals;
  if (prompt === undefined || positionals.length > 1) throw new TypeError("give one PROMPT");
  if (!values.out.endsWith(".npy")) throw new TypeError("--out must end in .npy");
  const request: GenerateRequest = { prompt };
  if (values.policy !== undefined) request.policy = values.policy;
  if (values.seed !== undefined) request.seed = Number(values.seed);
  if (values.steps !== undefined) request.num_inference_steps = Number(values.steps);

  const interrupt = new AbortController();
  process.once("SIGINT", () => interrupt.abort());
  let client: Client | undefined;
  try {
    client = new Client(values.url, connection());
    const clip = await client.generate(request, {
      timeoutMs: 1000 * Number(values.timeout),
      signal: interrupt.signal,
      onProgress: ({ step, num_inference_steps }) =>
        process.stderr.write(`step ${step} of ${num_inference_steps}\n`),
    });
    save(values.out, npy(clip));
    save(values.out.replace(/npy$/, "json"), JSON.stringify(clip.record, null, 2) + "\n");
    process.stdout.write(`${values.out}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof GenerationError)) throw error;
    process.stderr.write(`error: ${error.status}: ${error.message}\n`);
    return interrupt.signal.aborted ? 130 : 3;
  } finally {
    client?.close();
  }
}

function connection(): ClientOptions {
  const { UNSEE_TOKEN, UNSEE_CA_CERTIFICATE } = process.env;
  const options: ClientOptions = {};
  if (UNSEE_TOKEN) options.token = UNSEE_TOKEN;
  if (UNSEE_CA_CERTIFICATE) {
    options.credentials = credentials.createSsl(readFileSync(UNSEE_CA_CERTIFICATE));
  }
  return options;
}

/** NumPy's file format, version 1.0: its head is padded to 64 bytes. */
function npy({ frames, shape }: Clip): Buffer {
  const head = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`;
  const padded = head.padEnd(64 * Math.ceil((head.length + 11) / 64) - 11) + "\n";
  const start = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, 0, 0]);
  start.writeUInt16LE(padded.length, 8);
  return Buffer.concat([start, Buffer.from(padded), frames]);
}

function save(file: string, data: string | Buffer): void {
  writeFileSync(`${file}.part`, data);
  renameSync(`${file}.part`, file);
}

main().then(
  (code) => (process.exitCode = code),
  (error: Error) => {
    process.stderr.write(`error: ${error.message}\n${USAGE}\n`);
    process.exitCode = 2;
  },
);
