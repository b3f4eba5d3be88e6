/**
 * Accepts readers and speaks HTTP 1.1 with them, within bounds: nobody who reads,
 * floods or stays silent may end delivery, or take what it needs.
 *
 * `Deno.serve` has no bounds to set: it gives a request all the time in the world
 * and a process all its descriptors to strangers, and when they have run out it
 * ends with an error. So the connections are accepted here, and node's server,
 * which takes any stream, speaks the protocol. Not HTTP/2: node's server for it
 * aborts the process (Deno 2.9.6: an assertion of nghttp2's fails) after some tens
 * of connections of node's own client, each with one request and an orderly end.
 */

import http, { type IncomingMessage, type ServerResponse } from "node:http";
import { messageOf } from "../base/errors.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { rest } from "../base/waits.ts";
import { hasSpareDescriptors } from "../kernel/descriptor.ts";
import { isOfOneClient } from "../kernel/listen.ts";
import { type AnswerTime, ReaderConnection } from "./connection.ts";

/** Readers at a time; a newcomer takes the place of the one that has been idle longest. */
const MAX_CONNECTIONS = 64;
/** Left to the delivery: a connection and what is asked about it, the queue's files. */
const RESERVED_DESCRIPTORS = 16;
/** A refused accept is tried again after this. */
const ACCEPT_RETRY_MS = 250;
/** That readers cannot be accepted is said again after this. */
const SAY_AGAIN_MS = 60_000;
const MAX_BODY_BYTES = 4096;
/** To what is no HTTP. */
const BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/** A request, as far as anybody here asks. */
export interface HttpRequest {
  readonly method: string;
  readonly pathname: string;
  readonly peer: string;
  /** A header by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** The body of a POST; undefined: it is too large. */
  readonly body: string | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream has no end by itself. */
  readonly body: string | ReadableStream<Uint8Array>;
}

export interface HttpListenerOptions {
  /** Closed with this. */
  readonly listener: Deno.Listener;
  readonly clock: Clock;
  readonly logger: Logger;
  /** May throw. */
  readonly answer: (request: HttpRequest) => Promise<HttpAnswer>;
  /** What to answer where a request cannot be understood, or answering failed. */
  readonly failure: (status: 400 | 500) => HttpAnswer;
}

/** Serves until it is closed. */
export class HttpListener {
  readonly #options: HttpListenerOptions;
  readonly #connections = new Set<ReaderConnection>();
  readonly #http: http.Server;
  #closing = false;
  #onEmpty: () => void = () => {};

  constructor(options: HttpListenerOptions) {
    this.#options = options;
    this.#http = http.createServer({ requireHostHeader: false, maxHeaderSize: 16 * 1024 });
    this.#http.on("request", (incoming, outgoing) => void this.#answer(incoming, outgoing));
    this.#http.on("clientError", (_error, stream) => stream.end(BAD_REQUEST));
    void this.#accept();
  }

  /**
   * Accepts nobody any more; what is being answered has so much time, in milliseconds.
   */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.#options.listener.close();
    for (const connection of this.#connections) {
      if (connection.idleSinceMs !== undefined) connection.destroy();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    if (this.#connections.size === 0) resolve();
    const cancel = this.#options.clock.setTimer(graceMs, resolve);
    await promise;
    cancel();
    for (const connection of this.#connections) connection.destroy();
    this.#http.close();
  }

  async #accept(): Promise<void> {
    const { listener, logger, clock } = this.#options;
    let saidAtMs = -Infinity;
    while (!this.#closing) {
      try {
        await this.#take(await listener.accept());
      } catch (error) {
        if (this.#closing) return;
        // A reader that has reset meanwhile is no trouble.
        if (isOfOneClient(error)) continue;
        if (clock.nowMs() - saidAtMs >= SAY_AGAIN_MS) {
          logger.warn(`status page: cannot accept readers: ${messageOf(error)}`);
          saidAtMs = clock.nowMs();
        }
        this.#dropIdle();
        await rest(clock, ACCEPT_RETRY_MS);
      }
    }
  }

  async #take(conn: Deno.Conn): Promise<void> {
    const scarce = !hasSpareDescriptors(RESERVED_DESCRIPTORS);
    const full = scarce || this.#connections.size >= MAX_CONNECTIONS;
    // One for one: the descriptor of what is closed now comes back only in a moment.
    if (full && !this.#dropIdle()) return conn.close();
    if (scarce) await new Promise<void>((resolve) => this.#options.clock.defer(resolve));
    // Its accept may have been over as the listener was closed.
    if (this.#closing) return conn.close();
    const connection = new ReaderConnection(conn, this.#options.clock);
    this.#connections.add(connection);
    connection.once("close", () => {
      this.#connections.delete(connection);
      if (this.#connections.size === 0) this.#onEmpty();
    });
    this.#http.emit("connection", connection);
  }

  /** @returns Whether there was one. */
  #dropIdle(): boolean {
    let idlest: ReaderConnection | undefined;
    for (const connection of this.#connections) {
      const { idleSinceMs = Infinity } = connection;
      if (idleSinceMs < (idlest?.idleSinceMs ?? Infinity)) idlest = connection;
    }
    if (idlest === undefined) return false;
    this.#connections.delete(idlest);
    idlest.destroy();
    return true;
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const connection: unknown = incoming.socket;
    if (!(connection instanceof ReaderConnection)) return void outgoing.end();
    // Until it has come, the request has not, and takes no place from anybody.
    const posted = incoming.method === "POST" ? await textOf(incoming) : undefined;
    if (connection.destroyed) return;
    const time = connection.answerBegins();
    outgoing.once("close", () => time.over());
    outgoing.on("error", () => {});
    const { answer, failure } = this.#options;
    const request = requestOf(incoming, connection.peer, posted);
    let answered: HttpAnswer;
    try {
      answered = request === undefined ? failure(400) : await answer(request);
    } catch {
      answered = failure(500);
    }
    const { status, headers, body } = answered;
    // Whoever asks seldom needs no connection meanwhile.
    const end = { connection: "close" };
    if (typeof body === "string") {
      const length = new TextEncoder().encode(body).length;
      outgoing.writeHead(status, { ...headers, ...end, "content-length": length });
      outgoing.end(incoming.method === "HEAD" ? "" : body);
      return;
    }
    outgoing.writeHead(status, { ...headers, ...end });
    outgoing.flushHeaders();
    await pass(body, outgoing, time);
    if (time.isOver) return;
    time.begin();
    outgoing.end();
  }
}

/**
 * Passes a stream on, no faster than it is read. Its owner may be as quiet as it likes, its
 * reader may not: the owner gives up one that lags behind, which is seen here only once that
 * one reads again.
 */
async function pass(
  body: ReadableStream<Uint8Array>,
  outgoing: ServerResponse,
  time: AnswerTime,
): Promise<void> {
  const reader = body.getReader();
  // Its owner learns at once that nobody reads any more.
  void time.ended.then(() => reader.cancel().catch(() => {}));
  while (!time.isOver) {
    time.rest();
    const { done, value } = await reader.read();
    if (done || time.isOver) return;
    if (outgoing.write(value)) continue;
    time.begin();
    const { promise, resolve } = Promise.withResolvers<void>();
    outgoing.once("drain", resolve);
    await Promise.race([promise, time.ended]);
  }
}

/** @returns `undefined`: it makes no sense. */
function requestOf(
  incoming: IncomingMessage,
  peer: string,
  body: string | undefined,
): HttpRequest | undefined {
  const { method = "", url = "", headers } = incoming;
  const { host } = headers;
  const header = (name: string) => {
    const value = headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  if (host !== undefined && host !== "" && !URL.canParse(`http://${host}/`)) return undefined;
  const parsed = URL.parse(url, "http://localhost/");
  if (parsed === null) return undefined;
  return { method, pathname: parsed.pathname, peer, header, body };
}

async function textOf(incoming: IncomingMessage): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const part of incoming) {
      bytes += part.length;
      if (bytes > MAX_BODY_BYTES) return undefined;
      parts.push(part);
    }
  } catch {
    return undefined; // Its connection has ended before it.
  }
  return await new Blob(parts.map((part) => new Uint8Array(part))).text();
}
