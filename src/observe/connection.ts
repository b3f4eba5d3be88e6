/** One reader's connection, as node's HTTP server takes it. */

import { Duplex } from "node:stream";
import type { Clock } from "../base/ports.ts";
import { writeAll } from "../base/write_all.ts";
import { formatIpAddress, isIpv4, parseIpAddress } from "../kernel/ip_address.ts";

/** How long a request may take to come, its body included, from the connection or the last answer on. */
const REQUEST_TIMEOUT_MS = 15_000;
/** How long its answer may take to be taken; of one without an end, each part of it. */
const ANSWER_TIMEOUT_MS = 30_000;
const READ_BYTES = 16 * 1024;

/**
 * A stream over a connection of Deno's, which it owns, and which is cut when it
 * costs too much time: a reader must not hold a descriptor for nothing.
 */
export class ReaderConnection extends Duplex {
  /** Who it is, for the counting of guesses. */
  readonly peer: string;
  readonly #conn: Deno.Conn;
  readonly #clock: Clock;
  readonly #answers = new Set<AnswerTime>();
  #idleSinceMs: number;
  #cancelCut: () => void = () => {};

  constructor(conn: Deno.Conn, clock: Clock) {
    super({ allowHalfOpen: true });
    this.#conn = conn;
    this.#clock = clock;
    this.#idleSinceMs = clock.nowMs();
    this.peer = peerOf(conn.remoteAddr);
    this.#cutIn(REQUEST_TIMEOUT_MS);
  }

  /** Since when nothing is being answered on it; undefined: something is. */
  get idleSinceMs(): number | undefined {
    return this.#answers.size === 0 ? this.#idleSinceMs : undefined;
  }

  /** A request has come whole. Returns the time of its answer. */
  answerBegins(): AnswerTime {
    this.#cancelCut();
    const time: AnswerTime = new AnswerTime(
      this.#clock,
      () => this.destroy(),
      () => this.#answered(time),
    );
    this.#answers.add(time);
    return time;
  }

  #answered(time: AnswerTime): void {
    this.#answers.delete(time);
    if (this.#answers.size > 0 || this.destroyed) return;
    this.#idleSinceMs = this.#clock.nowMs();
    this.#cutIn(REQUEST_TIMEOUT_MS);
  }

  #cutIn(ms: number): void {
    this.#cancelCut();
    this.#cancelCut = this.#clock.setTimer(ms, () => this.destroy());
  }

  override _read(): void {
    void this.#readOnce();
  }

  async #readOnce(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    try {
      const length = await this.#conn.read(buffer);
      if (!this.destroyed) this.push(length === null ? null : buffer.subarray(0, length));
    } catch {
      this.destroy(); // Reset, or closed by us.
    }
  }

  override _write(
    bytes: Uint8Array,
    _encoding: string,
    done: (error?: Error | null) => void,
  ): void {
    void writeAll(this.#conn, bytes).then(() => done(), () => {
      this.destroy();
      done();
    });
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!("closeWrite" in this.#conn)) return done();
    this.#conn.closeWrite().then(() => done(), () => done());
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    this.#cancelCut();
    // Node's server says nothing of answers that were to follow the last one.
    for (const time of this.#answers) time.over();
    this.#conn.close();
    done(); // An error on the way to a reader is nobody's concern.
  }

  // What node's server asks of a socket beside a stream; the times are ours.
  readonly setTimeout = (): this => this;
  readonly setNoDelay = (): this => this;
  readonly setKeepAlive = (): this => this;
  readonly ref = (): this => this;
  readonly unref = (): this => this;
}

/**
 * How long one answer may take until its reader is cut. Each has a time of its own: requests may
 * come behind one another, and an answer that is taken tells nothing of another.
 */
export class AnswerTime {
  readonly #clock: Clock;
  readonly #cut: () => void;
  readonly #onOver: () => void;
  readonly #ended = Promise.withResolvers<void>();
  #cancel: () => void = () => {};
  #isOver = false;

  /** @param cut Ends the connection. */
  constructor(clock: Clock, cut: () => void, onOver: () => void) {
    this.#clock = clock;
    this.#cut = cut;
    this.#onOver = onOver;
    this.begin();
  }

  /** Whether it is written, or nobody is there to take it. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Resolves once it is. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** What there is to be taken has so much time from now on. */
  begin(): void {
    this.#cancel();
    if (this.#isOver) return;
    this.#cancel = this.#clock.setTimer(ANSWER_TIMEOUT_MS, this.#cut);
  }

  /** Everything so far was taken, and what comes next may be a while. */
  rest(): void {
    this.#cancel();
  }

  /** The answer is written, or nobody is there to take it. */
  over(): void {
    this.#isOver = true;
    this.#cancel();
    this.#ended.resolve();
    this.#onOver();
  }
}

/** An address; of IPv6 the network, of which one host may have 2^64 addresses. */
function peerOf(address: Deno.Addr): string {
  if (!("hostname" in address)) return "";
  const bytes = parseIpAddress(address.hostname);
  if (bytes === undefined) return address.hostname;
  // A socket for both kinds tells of IPv4 in its mapped form, which all have one network of.
  if (isIpv4(bytes)) return formatIpAddress(bytes.subarray(12));
  return formatIpAddress(bytes.map((byte, at) => at < 8 ? byte : 0));
}
