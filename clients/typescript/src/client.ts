// A client of text_to_video: streams progress and the clip over gRPC, with typed errors.
//
// What the contract says of requests, answers and statuses is generated (text_to_video.ts), and so
// are the types of the messages (generated/, by `npm run build`).

import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import type { ProtoGrpcType } from "./generated/grpc_service.js";
import type { GRPCInferenceServiceClient } from "./generated/inference/GRPCInferenceService.js";
import type { ModelStreamInferResponse__Output } from "./generated/inference/ModelStreamInferResponse.js";
import { GenerationError, MODEL, STATUSES, readEvent, writeRequest } from "./text_to_video.js";
import type { Clip, Event, GenerateRequest, Part, Progress } from "./text_to_video.js";

export { credentials } from "@grpc/grpc-js";
export * from "./text_to_video.js";

const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\]):\d+$|^unix:/;

export interface ClientOptions {
  /** What a gateway knows the caller by. */
  token?: string;
  /** `credentials.createSsl()` encrypts; without it a token is sent to this machine only. */
  credentials?: grpc.ChannelCredentials;
  /** How long one clip may take in all, unless a call says otherwise; 600000. */
  timeoutMs?: number;
  /** How long reaching the server may take; 10000. */
  connectTimeoutMs?: number;
}

export interface CallOptions {
  timeoutMs?: number;
  /** Cancels the request on the server. */
  signal?: AbortSignal;
  /** Called with each step by `generate`. */
  onProgress?: (progress: Progress) => void;
}

/** A connection to one server at `url`, its host and gRPC port. */
export class Client {
  readonly #stub: GRPCInferenceServiceClient;
  readonly #metadata = new grpc.Metadata();

  constructor(
    readonly url: string,
    private readonly options: ClientOptions = {},
  ) {
    const { token, credentials } = options;
    if (token !== undefined) {
      if (!/^[\x21-\x7e]+$/.test(token)) {
        throw invalid("the token must be printable ASCII without spaces");
      }
      if (credentials === undefined && !LOOPBACK.test(url)) {
        throw invalid(`the token would travel to ${url} unencrypted; give credentials`);
      }
      this.#metadata.set("authorization", `Bearer ${token}`);
    }
    this.#metadata.set("max-receive-bytes", String(MAX_MESSAGE_BYTES));
    const file = fileURLToPath(new URL("./grpc_service.proto", import.meta.url));
    const loaded = loadSync(file, { keepCase: true, longs: Number, defaults: true, oneofs: true });
    const { inference } = grpc.loadPackageDefinition(loaded) as unknown as ProtoGrpcType;
    this.#stub = new inference.GRPCInferenceService(
      url,
      credentials ?? grpc.credentials.createInsecure(),
      { "grpc.max_receive_message_length": MAX_MESSAGE_BYTES },
    );
  }

  /**
   * A `Progress` per evaluation of the video model and last the `Clip`; with `stream_frames` a
   * `Part` as soon as its frames are decoded, and the clip has them all. Leaving the loop cancels
   * the request on the server. Throws GenerationError.
   */
  async *stream(request: GenerateRequest, options: CallOptions = {}): AsyncGenerator<Event, void> {
    const message = writeRequest(request);
    const timeoutMs = options.timeoutMs ?? this.options.timeoutMs ?? 600_000;
    const deadline = Date.now() + timeoutMs;
    await this.#reach(Math.min(this.options.connectTimeoutMs ?? 10_000, timeoutMs));
    if (options.signal?.aborted) {
      throw new GenerationError("CANCELLED", "the request was cancelled before it was sent");
    }
    const call = this.#stub.ModelStreamInfer(this.#metadata, { deadline });
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    const parts: Part[] = [];
    let last: Clip | GenerationError | undefined;
    try {
      call.write(message);
      call.end();
      for await (const answer of call as AsyncIterable<ModelStreamInferResponse__Output>) {
        if (last !== undefined) continue; // cancelled now, the stream would stay in Triton for good
        if (answer.error_message) {
          last = GenerationError.read(answer.error_message);
        } else if (answer.infer_response) {
          const event = readEvent(answer.infer_response, parts);
          if (event?.type === "part") parts.push(event);
          if (event?.type === "result") last = event;
          else if (event !== undefined) yield event;
        }
      }
    } catch (error) {
      last ??= this.#translated(error, timeoutMs);
    } finally {
      options.signal?.removeEventListener("abort", cancel);
      cancel();
    }
    last ??= new GenerationError("INTERNAL", `${this.url} ended the stream without a clip`);
    if (last instanceof GenerationError) throw last;
    yield last;
  }

  /** The clip of `stream(request)`. Throws GenerationError. */
  async generate(request: GenerateRequest, options: CallOptions = {}): Promise<Clip> {
    let last: Event | undefined;
    for await (last of this.stream(request, options)) {
      if (last.type === "progress") options.onProgress?.(last);
    }
    return last as Clip; // a stream ends with its clip, or throws
  }

  /** Closes the connection. */
  close(): void {
    this.#stub.close();
  }

  /** A refusal comes back at once and silence after `timeoutMs`, unlike in a long request. */
  #reach(timeoutMs: number): Promise<void> {
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
    // gRPC's own words; a gateway says itself why it gave up, maybe at once
    if (status === "DEADLINE_EXCEEDED" && /^$|deadline.*exceeded/i.test(details)) {
      return new GenerationError(status, `no clip from ${this.url} within ${timeoutMs} ms`);
    }
    return new GenerationError(status, details || "no reason given", retryAfterMs);
  }
}

function invalid(sentence: string): GenerationError {
  return new GenerationError("INVALID_ARGUMENT", sentence);
}
