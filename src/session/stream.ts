/**
 * What a session's function works with: a reader and writer of one connection, bounded in bytes
 * and in time.
 */

import { seconds, SessionRefusedError, WireError, wireError } from "../base/errors.ts";
import { type Clock, TcpState, type Wire } from "../base/ports.ts";
import { rest } from "../base/waits.ts";
import type { Framing } from "../framing/framing.ts";
import { messageFinder } from "../framing/message_finder.ts";
import {
  type Bytes,
  describePattern,
  endOf,
  latin1,
  type Pattern,
  quote,
  toBytes,
  toPattern,
} from "./pattern.ts";
import type { WireReader } from "./wire_reader.ts";

/** The longest answer that is waited for. */
const MAX_ANSWER_BYTES = 16 * 1024;
/** A refusal is mostly a line: so long is its rest waited for. */
const REST_OF_LINE_MS = 250;
/** A close with unread bytes is a FIN and then a reset: so long is the reset waited for. */
const RESET_BEHIND_FIN_MS = 20;
const LINE_FEED = 10;

/**
 * How to wait for an answer.
 *
 * @category Session
 */
export interface ExpectOptions {
  /** What is a refusal; it wins over an answer that ends at the same byte. */
  readonly refuse?: Pattern;
  /**
   * How the answer ends: then it is one whole message, and the patterns see what it
   * carries. One that they do not fit is a refusal. Any framing but `"chunks"`.
   *
   * @default the answer ends where its pattern does
   */
  readonly framing?: Framing;
  /**
   * How long it may take, in milliseconds, within `Session.timeoutMs`.
   *
   * @default {Infinity} what is left of that
   */
  readonly timeoutMs?: number;
}

/**
 * How to read bytes.
 *
 * @category Session
 */
export type ReadOptions = Pick<ExpectOptions, "timeoutMs">;

/**
 * One connection while a session is opened on it.
 *
 * @category Session
 */
export interface SessionStream {
  /** `"192.0.2.1:50123"`. */
  readonly localAddress: string;
  /** `"192.0.2.7:4000"`. */
  readonly remoteAddress: string;
  /** Ends with the attempt: its time is over, or the sender closes. */
  readonly signal: AbortSignal;
  /** What `transform` will find: a session id, a counter, a key. */
  readonly state: Map<string, unknown>;
  /**
   * Sends bytes. Resolves once the kernel has taken them.
   *
   * @throws {WireError} The connection failed.
   */
  write(bytes: Bytes): Promise<void>;
  /**
   * Waits for an answer, and takes it.
   *
   * @param answer What it has to be.
   * @returns What was taken: all up to the end of the match.
   * @throws {SessionRefusedError} Something else came, or 16 KiB without a match, or the
   *   server closed the connection.
   * @throws {WireError} Nothing came in time, or the connection failed.
   */
  expect(answer: Pattern, options?: ExpectOptions): Promise<Uint8Array>;
  /**
   * Takes so many bytes, 16,384 at most.
   *
   * @throws {RangeError} `byteCount` is more than that.
   * @throws {SessionRefusedError} The server closed the connection before.
   * @throws {WireError} They did not come in time, or the connection failed.
   */
  read(byteCount: number, options?: ReadOptions): Promise<Uint8Array>;
  /**
   * Takes everything through the next `delimiter`, 16,384 bytes at most.
   *
   * @throws {SessionRefusedError} It was not among these, or the server closed the connection.
   * @throws {WireError} It did not come in time, or the connection failed.
   */
  readThrough(delimiter: Bytes, options?: ReadOptions): Promise<Uint8Array>;
  /**
   * Says that the server has refused.
   *
   * @param words Why, for a person.
   * @throws {SessionRefusedError} Always.
   */
  refuse(words: string): never;
}

/** What a {@linkcode BoundedStream} works on. */
export interface StreamParts {
  readonly wire: Wire;
  readonly reader: WireReader;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly state: Map<string, unknown>;
  readonly timeoutMs: number;
}

const LATE = Symbol("late");

/** A {@linkcode SessionStream} that counts what is written, and ends in time. */
export class BoundedStream implements SessionStream {
  readonly #parts: StreamParts;
  readonly #startedAtMs: number;
  #received = new Uint8Array();
  #writtenBytes = 0;
  #writes: Promise<void> = Promise.resolve();
  #closed = false;
  /** Stands before the words of errors: `"step 2 of the session: "`. */
  place = "";

  /** The time runs from now on. */
  constructor(parts: StreamParts) {
    this.#parts = parts;
    this.#startedAtMs = parts.clock.nowMs();
  }

  get localAddress(): string {
    return this.#parts.wire.localAddress;
  }

  get remoteAddress(): string {
    return this.#parts.wire.remoteAddress;
  }

  get signal(): AbortSignal {
    return this.#parts.signal;
  }

  get state(): Map<string, unknown> {
    return this.#parts.state;
  }

  /** So many the kernel has taken. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  write(bytes: Bytes): Promise<void> {
    this.#assertOpen();
    const copy = toBytes(bytes);
    // One after the other, also where the caller does not wait.
    this.#writes = this.#writes.then(() => this.#writeAll(copy));
    this.#writes.catch(() => {});
    const written = this.within(this.#writes, "no room for more bytes");
    written.catch(() => {});
    return written;
  }

  async expect(answer: Pattern, options: ExpectOptions = {}): Promise<Uint8Array> {
    const expected = toPattern(answer);
    const refused = options.refuse === undefined ? undefined : toPattern(options.refuse);
    const wanted = describePattern(expected);
    const judge = (answer: Uint8Array) => {
      const at = endOf(expected, answer);
      const refusedAt = refused === undefined ? undefined : endOf(refused, answer);
      const refuses = typeof refusedAt === "number" &&
        (typeof at !== "number" || refusedAt <= at);
      return refuses || at === "never" ? "refused" : at;
    };
    const find = options.framing === undefined
      ? undefined
      : messageFinder(options.framing, MAX_ANSWER_BYTES);
    const end = await this.#until(wanted, options.timeoutMs, (received) => {
      if (find === undefined) return judge(received);
      const found = find(received);
      if (found === undefined || found === "none") return found && "refused";
      return typeof judge(found.payload) === "number" ? found.endBytes : "refused";
    });
    return end === "refused" ? await this.#refusedBy(wanted) : this.#take(end);
  }

  async read(byteCount: number, { timeoutMs }: ReadOptions = {}): Promise<Uint8Array> {
    if (!Number.isInteger(byteCount) || byteCount < 0 || byteCount > MAX_ANSWER_BYTES) {
      throw new RangeError(`read() takes 0 to ${MAX_ANSWER_BYTES} bytes, got ${byteCount}.`);
    }
    const isThere = ({ length }: Uint8Array) => length >= byteCount ? byteCount : undefined;
    return this.#take(await this.#until(`${byteCount} bytes`, timeoutMs, isThere));
  }

  async readThrough(delimiter: Bytes, { timeoutMs }: ReadOptions = {}): Promise<Uint8Array> {
    const bytes = toBytes(delimiter);
    if (bytes.length === 0) throw new RangeError("A delimiter has at least one byte.");
    const text = latin1(bytes);
    const end = await this.#until(`${quote(bytes)} at the end`, timeoutMs, (received) => {
      const at = latin1(received).indexOf(text);
      return at < 0 ? undefined : at + bytes.length;
    });
    return this.#take(end);
  }

  refuse(words: string): never {
    throw new SessionRefusedError(`${this.place}${words}`);
  }

  /**
   * Waits for something of the session's, until its time is over.
   *
   * @param what Words for the error.
   * @param graceMs So much more, for what waits inside has better words.
   * @throws {WireError} It took too long.
   */
  async within<T>(promise: Promise<T>, what: string, graceMs = 0): Promise<T> {
    const settled = await this.#race(promise, this.#deadlineMs + graceMs);
    if (settled === LATE) throw this.#late(what, this.#parts.timeoutMs);
    return settled;
  }

  /** Waits for a moment, or until the session's time is over. */
  async pause(ms: number, what: string): Promise<void> {
    const { clock, timeoutMs } = this.#parts;
    const leftMs = this.#deadlineMs - clock.nowMs();
    if (leftMs > 0) await rest(clock, Math.min(ms, leftMs));
    if (leftMs < ms) throw this.#late(what, timeoutMs);
  }

  /**
   * The session is open: nobody writes any more, and what was not read is the connection's.
   *
   * @throws {WireError} A write failed.
   */
  async finish(): Promise<void> {
    this.#closed = true;
    await this.within(this.#writes, "no room for more bytes");
    this.#parts.reader.giveBack(this.#received);
    this.#received = new Uint8Array();
  }

  get #deadlineMs(): number {
    return this.#startedAtMs + this.#parts.timeoutMs;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length;) {
      const takenBytes = await this.#parts.wire.write(bytes.subarray(offset));
      if (takenBytes < 1) throw new WireError("UNKNOWN", "A write that works takes something.");
      this.#writtenBytes += takenBytes;
      offset += takenBytes;
    }
  }

  /** Reads until `judge` has found what it looks for. */
  async #until<T>(
    wanted: string,
    timeoutMs: number | undefined,
    judge: (received: Uint8Array) => T | undefined,
  ): Promise<T> {
    this.#assertOpen();
    const sinceMs = this.#parts.clock.nowMs();
    const untilMs = Math.min(this.#deadlineMs, sinceMs + (timeoutMs ?? Infinity));
    for (;;) {
      const found = judge(this.#received);
      if (found !== undefined) return found;
      if (this.#received.length >= MAX_ANSWER_BYTES) {
        throw this.#answered(`, and more than ${MAX_ANSWER_BYTES} bytes are no answer`, wanted);
      }
      const chunk = await this.#peek(untilMs);
      if (chunk === LATE) {
        throw this.#received.length === 0
          ? this.#late(`no answer, expected was ${wanted}`, untilMs - sinceMs)
          : this.#answered(`, and nothing more within ${seconds(untilMs - sinceMs)}`, wanted);
      }
      if (chunk === null) throw await this.#ended(wanted);
      this.#parts.reader.drop();
      this.#append(chunk);
    }
  }

  /**
   * The next chunk, to be taken at once. A function may have ended without waiting for what it
   * asked for (`Promise.race`): what comes then is the connection's.
   */
  async #peek(untilMs: number): Promise<Uint8Array | null | typeof LATE> {
    const chunk = await this.#race(this.#parts.reader.peek(), untilMs);
    this.#assertOpen();
    return chunk;
  }

  #append(chunk: Uint8Array): void {
    const all = new Uint8Array(this.#received.length + chunk.length);
    all.set(this.#received);
    all.set(chunk, this.#received.length);
    this.#received = all;
  }

  #take(byteCount: number): Uint8Array {
    const taken = this.#received.slice(0, byteCount);
    this.#received = this.#received.slice(byteCount);
    return taken;
  }

  /** The rest of what the server says belongs to the words, if it comes soon. */
  async #refusedBy(wanted: string): Promise<never> {
    const { reader, clock } = this.#parts;
    const untilMs = Math.min(this.#deadlineMs, clock.nowMs() + REST_OF_LINE_MS);
    while (!this.#received.includes(LINE_FEED) && this.#received.length < MAX_ANSWER_BYTES) {
      const chunk = await this.#peek(untilMs).catch(() => null);
      if (chunk === LATE || chunk === null) break;
      reader.drop();
      this.#append(chunk);
    }
    throw this.#answered("", wanted);
  }

  #answered(how: string, wanted: string): SessionRefusedError {
    const said = quote(this.#received);
    return new SessionRefusedError(
      `${this.place}the server said ${said}${how}; expected was ${wanted}`,
      said,
    );
  }

  /** A server that ends in order has read what it was sent, and does not want it. */
  async #ended(wanted: string): Promise<SessionRefusedError | WireError> {
    const { wire } = this.#parts;
    await this.pause(RESET_BEHIND_FIN_MS, "no answer");
    if (wire.sample().state === TcpState.CLOSE) {
      const code = wire.takeSocketError() ?? "EPIPE";
      return wireError(code, `${this.place}the connection was reset; expected was ${wanted}`);
    }
    const said = this.#received.length === 0 ? undefined : quote(this.#received);
    return new SessionRefusedError(
      `${this.place}the server closed the connection ` +
        `${said === undefined ? "without a word" : `after ${said}`}; expected was ${wanted}`,
      said,
    );
  }

  #late(what: string, waitedMs: number): WireError {
    const { wire } = this.#parts;
    const fault = wire.localFault();
    const { sendQueueBytes } = wire.sample();
    const why = fault !== undefined
      ? `: ${fault.words}`
      : sendQueueBytes > 0
      ? `: its kernel has not acknowledged ${sendQueueBytes} bytes`
      : "";
    return wireError("ETIMEDOUT", `${this.place}${what} within ${seconds(waitedMs)}${why}`);
  }

  async #race<T>(promise: Promise<T>, untilMs: number): Promise<T | typeof LATE> {
    const { clock } = this.#parts;
    const late = Promise.withResolvers<typeof LATE>();
    const leftMs = Math.max(0, untilMs - clock.nowMs());
    const cancel = clock.setTimer(leftMs, () => late.resolve(LATE));
    try {
      return await Promise.race([promise, late.promise]);
    } finally {
      cancel();
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new TypeError("The session is open: its stream is of no use any more.");
  }
}
