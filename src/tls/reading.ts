/**
 * How far the peer's program has read, told by the answers to TLS KeyUpdates.
 *
 * A KeyUpdate with `update_requested` is a record like any other in the stream, and whoever
 * receives it has to send a KeyUpdate of his own (RFC 8446, 4.6.3). Who reads it is not the
 * peer's kernel, and no TCP proxy either, for they have no key: it is the TLS library in
 * the peer's program, and that reads in order. So its answer says, authenticated, that the
 * program has read everything that was sent before the request.
 *
 * An answer does not say which request it answers. So:
 *
 * - **Answers are counted, and the n-th answer is taken for that of the n-th request.**
 *   Requests are read in order, and nobody answers one twice. Where a peer answers several
 *   with one, the count falls behind, and what was read is confirmed late or never, but
 *   never too early.
 * - **A ping is three requests in a row, and confirms with its second answer.** OpenSSL
 *   sends an answer only with the next message of the handshake that it reads, or with its
 *   next data: of three requests it answers two at once, and the third with the first of
 *   the next ping. Who answers each at once answers all three.
 * - **A KeyUpdate that the peer sends of its own accord looks like an answer**, unless it
 *   asks for one in return, which an answer never does. Nothing forbids it; OpenSSL sends
 *   none without its program asking for it, others after millions of records of their own
 *   data. One too many in the count is harmless: with it the second answer of a ping is in
 *   truth the first, and that, too, comes from behind everything that was sent before the
 *   ping. Once all has come to rest, one that is too many arrives where none is due: then
 *   the connection fails, and what is not confirmed is sent again. And no answer can come
 *   before the kernel has acknowledged its request: one that does ends the connection, too.
 *   Two of them under one run of pings, with packets in the peer's kernel that nobody ever
 *   reads, are what remains; against OpenSSL it takes three.
 * - **A KeyUpdate that asks for one in return** is answered by the engine and not counted.
 *   OpenSSL may have made it of an answer that was still to be sent, which then never
 *   comes, and the count stays one behind. So one more request goes out now, and with each
 *   later ping. A peer that does so again and again gets a new connection.
 *
 * Example: 500 bytes are sent, then three requests, then 300 bytes more, then three
 * requests. The peer's program reads 600 bytes. It has read the first three requests by
 * then: two answers come from OpenSSL, and the first 500 bytes count as read. Of the 100
 * behind them nobody knows yet. When it reads on, the first request of the second ping
 * brings the third answer, and its second one the fourth. That is not yet the second
 * answer of the second ping, which is the fifth, and comes with its third request: now 800
 * bytes count as read.
 *
 * @module
 */

import { WireError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";

/** Requests in a ping, where no answer was lost. */
const REQUESTS = 3;
/** So many answers may be lost on a connection. */
const MAX_LOST = 8;
/** A ping is confirmed by its so-manieth answer. */
const CONFIRMING_ANSWER = 2;
/** Data is pinged for once so much of it was sent since the last ping, … */
const PING_AFTER_BYTES = 64 * 1024;
/** … or once the first of it was sent so long ago. */
const PING_AFTER_MS = 100;
/**
 * The timer pings only while fewer than this are unanswered. A peer that reads slowly is asked
 * again when it has answered: then one ping stands for everything that was sent meanwhile.
 *
 * The pings for so many bytes know no such bound. Megabytes may lie unread between two
 * programs, and a peer that reads them slowly answers nothing until it comes to a ping: with
 * eight of them at the front and the ninth behind everything, it would read for minutes
 * without a sign of it, and would be called stalled. They are bounded all the same, for each
 * stands behind 64 KiB that nobody has read: no more of them fit than both kernels' buffers
 * hold. Three requests for 64 KiB are 1 byte in 800, and between two pings there is always
 * data: nobody gets more KeyUpdates in a row than before.
 */
const MAX_PINGS_OF_TIMER = 8;

/** What {@linkcode Reading} works with. */
export interface ReadingOptions {
  /** Time. */
  readonly clock: Clock;
  /** Sends so many requests, behind everything that was written. */
  readonly ask: (count: number) => void;
}

/** How far the peer's program has read, on one connection. */
export class Reading {
  readonly #clock: Clock;
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

  /** @param options Time, and how a request is sent. */
  constructor({ clock, ask }: ReadingOptions) {
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

  /**
   * Data was handed to the TLS library.
   *
   * @param writtenBytes How much, since the begin.
   */
  wrote(writtenBytes: number): void {
    this.#writtenBytes = writtenBytes;
    this.#pingIfDue();
  }

  /** Asks now, also where nothing was sent. */
  ping(): void {
    if (this.#ended) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#pings.push({
      bytes: this.#writtenBytes,
      answers: this.#requests + CONFIRMING_ANSWER,
    });
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
