/**
 * How far the peer's program has read, told by the answers to TLS KeyUpdates. What an answer
 * proves is in docs/TLS.md, "What was read"; why they are counted as here, with an example, in
 * docs/decisions/key-updates.md:
 *
 * - The n-th answer is taken for that of the n-th request.
 * - A ping is three requests in a row, and confirms with its second answer.
 * - A KeyUpdate that the peer sends of its own accord looks like an answer: one too many is
 *   harmless, and one that nobody has asked for ends the connection.
 * - One that asks for one in return is answered by the engine and not counted.
 */

import { WireError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";

/** Requests in a ping, where no answer was lost. */
const REQUESTS = 3;
/** So many answers may be lost on a connection. */
const MAX_LOST = 8;
/** Which of its answers confirms a ping. */
const CONFIRMING_ANSWER = 2;
/** Data is pinged for once so much of it was sent since the last ping, … */
const PING_AFTER_BYTES = 64 * 1024;
/** … or once the first of it was sent so long ago. */
const PING_AFTER_MS = 100;
/**
 * The timer pings only while fewer than this are unanswered. A peer that reads slowly is asked
 * again when it has answered: then one ping stands for everything that was sent meanwhile.
 *
 * The pings for so many bytes know no such bound: a peer that reads megabytes slowly answers
 * nothing until it comes to a ping, and with the next one behind everything it would be called
 * stalled. They are bounded all the same, by both kernels' buffers, for each stands behind
 * 64 KiB that nobody has read; three requests for that are 1 byte in 800.
 */
const MAX_PINGS_OF_TIMER = 8;

/** How far the peer's program has read, on one connection. */
export class Reading {
  readonly #clock: Clock;
  /** Sends so many requests, behind everything that was written. */
  readonly #ask: (count: number) => void;
  /** Those that are not confirmed: where in the data each stands, and after how many answers. */
  readonly #pings: { readonly bytes: number; readonly answers: number }[] = [];
  #requests = 0;
  #answers = 0;
  /** Answers that may never come. */
  #lost = 0;
  #readBytes = 0;
  #writtenBytes = 0;
  #pingedBytes = 0;
  #cancelTimer: (() => void) | undefined;
  #ended = false;

  constructor({ clock, ask }: { clock: Clock; ask: (count: number) => void }) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** Of the data, so much at least was read. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** Whether a ping is not answered yet. */
  get awaitsAnswer(): boolean {
    return this.#pings.length > 0;
  }

  /** So much data was handed to the TLS library, since the begin. */
  wrote(writtenBytes: number): void {
    this.#writtenBytes = writtenBytes;
    this.#pingIfDue();
  }

  /** Asks now, also where nothing was sent. */
  ping(): void {
    if (this.#ended) return;
    this.#stopTimer();
    this.#pings.push({ bytes: this.#writtenBytes, answers: this.#requests + CONFIRMING_ANSWER });
    this.#pingedBytes = this.#writtenBytes;
    this.#request(REQUESTS + this.#lost);
  }

  /** Asks now where something was sent since the last ping: nothing more will be. */
  pingForRest(): void {
    if (this.#writtenBytes > this.#pingedBytes) this.ping();
  }

  /**
   * The peer has changed its key.
   *
   * @param asking Whether it asks for the same in return.
   * @param ackedBytes Of the data, so much its kernel has acknowledged.
   * @returns Whether a ping was answered by that.
   * @throws {WireError} It answers what nobody has asked, or what has not arrived yet.
   */
  keyUpdated(asking: boolean, ackedBytes: () => number): boolean {
    if (asking) {
      if (this.#answers === this.#requests) return false;
      if (++this.#lost > MAX_LOST) throw ofOwnAccord();
      this.#request(1);
      return false;
    }
    if (this.#answers === this.#requests) throw ofOwnAccord();
    this.#answers++;
    const [first] = this.#pings;
    if (first === undefined || first.answers > this.#answers) return false;
    const arrivedBytes = ackedBytes();
    if (arrivedBytes < first.bytes) {
      throw new WireError(
        "TLS_KEY_UPDATE",
        `the server says that it has read ${first.bytes} bytes, of which its kernel has ` +
          `acknowledged ${arrivedBytes} (TLS_KEY_UPDATE). Nothing was confirmed by that`,
      );
    }
    this.#readBytes = first.bytes;
    this.#pings.shift();
    this.#pingIfDue();
    return true;
  }

  /** The connection is over: nothing is asked any more. What was read stays read. */
  end(): void {
    this.#ended = true;
    this.#stopTimer();
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #pingIfDue(): void {
    const unpinged = this.#writtenBytes - this.#pingedBytes;
    if (this.#ended || unpinged === 0) return;
    if (unpinged >= PING_AFTER_BYTES) return this.ping();
    if (this.#pings.length >= MAX_PINGS_OF_TIMER) return;
    this.#cancelTimer ??= this.#clock.setTimer(PING_AFTER_MS, () => {
      this.#cancelTimer = undefined;
      if (this.#pings.length < MAX_PINGS_OF_TIMER) this.ping();
    });
  }

  #request(count: number): void {
    this.#requests += count;
    this.#ask(count);
  }
}

function ofOwnAccord(): WireError {
  return new WireError(
    "TLS_KEY_UPDATE",
    "the server changes its key of its own accord, and answers to our KeyUpdates cannot be told " +
      "from that (TLS_KEY_UPDATE): nothing more is confirmed on this connection",
  );
}
