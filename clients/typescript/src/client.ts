// A client of text_to_video: streams progress and the clip over gRPC, with typed errors.
//
// The types of requests, events and statuses are generated (text_to_video.ts), the messages too
// (generated/, made by `npm run build`). It knows no command line and no files.

import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import type { ProtoGrpcType } from "./generated/grpc_service.js";
import type { GRPCInferenceServiceClient } from "./generated/inference/GRPCInferenceService.js";
import type { ModelInferRequest } from "./generated/inference/ModelInferRequest.js";
import type { ModelInferResponse__Output } from "./generated/inference/ModelInferResponse.js";
import type { ModelStreamInferResponse__Output } from "./generated/inference/ModelStreamInferResponse.js";
import { INPUTS, MODEL, RECORD_FIELDS, STATUSES } from "./text_to_video.js";
import type { Clip, Event, GenerateRequest, Progress, Status } from "./text_to_video.js";

export * from "./text_to_video.js";

const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
const ERROR_TEXT = /^([A-Z_]+): (.+)$/s;
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\]):\d+$|^unix:/;
const INTEGER_BITS: Record<string, number> = { INT32: 32, INT64: 64 };

/** A request that gets no clip: the name of a gRPC status, and one sentence as the message. */
export class GenerationError extends Error {
  override readonly name = "GenerationError";

  /** `retryAfterMs`: when asking a gateway again may help. */
  constructor(
    readonly status: Status,
    sentence: string,
    readonly retryAfterMs?: number,
  ) {
    super(sentence);
  }
}

export interface ClientOptions {
  /** What a gateway knows the caller by. */
  token?: string;
  /** Encrypts the connection; also switched on by a `caCertificate`. */
  tls?: boolean;
  /** PEM of who signed the server's certificate; without it, the roots that Node knows. */
  caCertificate?: Buffer;
  /** PEM that a gateway knows the caller by; they go together, and with TLS. */
  clientCertificate?: Buffer;
  clientKey?: Buffer;
  /** How long one clip may take in all, unless a call says otherwise; 600000. */
  timeoutMs?: number;
  /** How long reaching the server may take; 10000. */
  connectTimeoutMs?: number;
}

export interface CallOptions {
  timeoutMs?: number;
  /** Cancels the request on the server. */
  signal?: AbortSignal;
}

/** A connection to one server at `url`, its host and gRPC port. */
export class Client {
  readonly #stub: GRPCInferenceServiceClient;
  readonly #metadata = new grpc.Metadata();

  constructor(
    readonly url: string,
    private readonly options: ClientOptions = {},
  ) {
    const { token, caCertificate, clientCertificate, clientKey } = options;
    const tls = options.tls || caCertificate !== undefined;
    if ((clientCertificate === undefined) !== (clientKey === undefined)) {
      throw invalid("clientCertificate and clientKey go together: give both or neither");
    }
    if (clientCertificate !== undefined && !tls) {
      throw invalid("clientCertificate goes with TLS: give caCertificate or tls");
    }
    if (token !== undefined) {
      if (!/^[\x21-\x7e]+$/.test(token)) {
        throw invalid("the token must be printable ASCII without spaces");
      }
      if (!tls && !LOOPBACK.test(url)) {
        throw invalid(`the token would travel to ${url} unencrypted; give caCertificate or tls`);
      }
      this.#metadata.set("authorization", `Bearer ${token}`);
    }
    const credentials = tls
      ? grpc.credentials.createSsl(caCertificate, clientKey, clientCertificate)
      : grpc.credentials.createInsecure();
    this.#stub = new (service().inference.GRPCInferenceService)(url, credentials, {
      "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    });
  }

  /**
   * A `Progress` per evaluation of the video model and last the `Clip`. Leaving the loop cancels
   * the request on the server. Throws GenerationError.
   */
  async *stream(request: GenerateRequest, options: CallOptions = {}): AsyncGenerator<Event, void> {
    const message = requestMessage(request);
    const timeoutMs = options.timeoutMs ?? this.options.timeoutMs ?? 600_000;
    const deadline = Date.now() + timeoutMs;
    await this.#connect(Math.min(this.options.connectTimeoutMs ?? 10_000, timeoutMs));
    if (options.signal?.aborted) {
      throw new GenerationError("CANCELLED", "the request was cancelled before it was sent");
    }
    const call = this.#stub.ModelStreamInfer(this.#metadata, { deadline });
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    let last: Clip | GenerationError | undefined;
    try {
      call.write(message);
      call.end();
      for await (const answer of call as AsyncIterable<ModelStreamInferResponse__Output>) {
        if (last !== undefined) continue; // cancelled now, the stream would stay in Triton for good
        if (answer.error_message) {
          last = rejected(answer.error_message);
        } else if (answer.infer_response) {
          const event = readResponse(answer.infer_response);
          if (event?.type === "result") last = event;
          else if (event !== undefined) yield event;
        }
      }
    } catch (error) {
      last ??= this.#translated(error, timeoutMs);
    } finally {
      options.signal?.removeEventListener("abort", cancel);
      call.cancel();
    }
    last ??= new GenerationError("INTERNAL", `${this.url} ended the stream without a clip`);
    if (last instanceof GenerationError) throw last;
    yield last;
  }

  /** The clip of `stream(request)`; `onProgress` sees each step. Throws GenerationError. */
  async generate(
    request: GenerateRequest,
    options: CallOptions & { onProgress?: (progress: Progress) => void } = {},
  ): Promise<Clip> {
    for await (const event of this.stream(request, options)) {
      if (event.type === "result") return event;
      options.onProgress?.(event);
    }
    throw new GenerationError("INTERNAL", `${this.url} ended the stream without a clip`);
  }

  /** Closes the connection. */
  close(): void {
    this.#stub.close();
  }

  /** A refusal comes back at once and silence after `timeoutMs`, unlike in a long request. */
  #connect(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stub.ServerLive({}, { deadline: Date.now() + timeoutMs }, (error) => {
        const gone = error?.code === grpc.status.UNAVAILABLE;
        if (gone || error?.code === grpc.status.DEADLINE_EXCEEDED) {
          reject(new GenerationError("UNAVAILABLE", `no server answers at ${this.url}`));
        } else {
          resolve();
        }
      });
    });
  }

  #translated(error: unknown, timeoutMs: number): GenerationError {
    if (!(error instanceof Error && "code" in error && "details" in error)) {
      const why = error instanceof Error ? error.message : String(error);
      return new GenerationError("INTERNAL", `the answer is not one of ${MODEL}: ${why}`);
    }
    const { code, details, metadata } = error as grpc.ServiceError;
    const status = STATUSES[code as keyof typeof STATUSES] ?? "UNKNOWN";
    if (status === "CANCELLED") {
      return new GenerationError(status, `the request to ${this.url} was cancelled`);
    }
    const retryAfter = metadata?.get("retry-after-ms")[0];
    const retryAfterMs = retryAfter === undefined ? undefined : Number(retryAfter);
    if (status === "DEADLINE_EXCEEDED" && retryAfterMs === undefined) {
      return new GenerationError(status, `no clip from ${this.url} within ${timeoutMs} ms`);
    }
    return new GenerationError(status, details || "no reason given", retryAfterMs);
  }
}

function service(): ProtoGrpcType {
  const file = fileURLToPath(new URL("./grpc_service.proto", import.meta.url));
  const loaded = loadSync(file, { keepCase: true, longs: Number, defaults: true, oneofs: true });
  return grpc.loadPackageDefinition(loaded) as unknown as ProtoGrpcType;
}

function requestMessage(request: GenerateRequest): ModelInferRequest {
  const given = Object.entries(request).filter(([, value]) => value !== undefined);
  const inputs = [];
  const raw_input_contents = [];
  for (const [name, value] of given) {
    const datatype = INPUTS[name as keyof GenerateRequest];
    if (datatype === undefined) throw invalid(`there is no input ${name}`);
    inputs.push({ name, datatype, shape: [1] });
    raw_input_contents.push(encoded(name, datatype, value));
  }
  return { model_name: MODEL, inputs, raw_input_contents };
}

function encoded(name: string, datatype: string, value: unknown): Buffer {
  const bits = INTEGER_BITS[datatype];
  if (datatype === "BYTES" && typeof value === "string") {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(Buffer.byteLength(value));
    return Buffer.concat([length, Buffer.from(value)]);
  }
  if (bits !== undefined && Number.isSafeInteger(value) && fits(value as number, bits)) {
    const data = Buffer.alloc(8);
    data.writeBigInt64LE(BigInt(value as number));
    return data.subarray(0, bits / 8);
  }
  if (datatype === "FP32" && typeof value === "number") {
    const data = Buffer.alloc(4);
    data.writeFloatLE(value);
    return data;
  }
  throw invalid(`${name} must be a ${datatype} value that a number holds exactly, not ${value}`);
}

function fits(value: number, bits: number): boolean {
  return bits === 64 || (value >= -(2 ** 31) && value < 2 ** 31);
}

/** What a response says; undefined when it carries no event (the stream's empty end). */
function readResponse(response: ModelInferResponse__Output): Event | undefined {
  const outputs = new Map(
    response.outputs.map((output, i) => [
      output.name,
      { shape: output.shape, data: response.raw_output_contents[i] ?? Buffer.alloc(0) },
    ]),
  );
  const told = outputs.get("event");
  if (told === undefined) return undefined;
  const event = JSON.parse(told.data.toString("utf8", 4, 4 + told.data.readUInt32LE(0)));
  if (event.type === "progress") return event as Progress;
  const frames = outputs.get("frames");
  const missing = RECORD_FIELDS.find((field) => event.record?.[field] === undefined);
  if (missing !== undefined) throw new Error(`the field ${missing} is missing`);
  const size = frames?.shape.reduce((product, length) => product * length, 1);
  if (frames?.shape.length !== 4 || frames.shape[3] !== 3 || size !== frames.data.length) {
    throw new Error("the frames are not RGB clips of bytes");
  }
  return {
    type: "result",
    frames: frames.data,
    shape: frames.shape as Clip["shape"],
    record: event.record,
  };
}

function invalid(sentence: string): GenerationError {
  return new GenerationError("INVALID_ARGUMENT", sentence);
}

/** Triton's own refusals carry no status; those of text_to_video do. */
function rejected(text: string): GenerationError {
  const [, name, sentence] = ERROR_TEXT.exec(text) ?? [];
  const known = Object.values(STATUSES).find((status) => status === name);
  return known && sentence
    ? new GenerationError(known, sentence)
    : new GenerationError("UNKNOWN", text);
}
