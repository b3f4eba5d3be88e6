/**
 * TLS over a `TcpWire`. It counts in plaintext: what the kernel says of ciphertext is
 * translated by the ends of the records.
 *
 * Invariants:
 * 1. A byte counts as acknowledged once the last byte of its record is.
 * 2. Whatever is not understood (a record of another size, a library that drops what it
 *    was given) fails the connection, and confirms nothing.
 * 3. A FIN without close_notify fails it, too: so a killed process ends.
 */

import { X509Certificate } from "node:crypto";
import { KernelCallError, messageOf, WireError, wireError } from "../base/errors.ts";
import {
  type Clock,
  type LocalFault,
  type SocketSample,
  TcpState,
  type TlsSession,
  type Wire,
} from "../base/ports.ts";
import type { TcpWire } from "../kernel/tcp_wire.ts";
import { alertWords, keyNotProven } from "./alerts.ts";
import { assertPinned, firstExpiry } from "./certificates.ts";
import type { EngineFactory, EngineOptions, Handshake, TlsEngine } from "./engine.ts";
import { Reading } from "./reading.ts";
import {
  bytesToWrite,
  FORMAT_OF_1_3,
  isNoAlert,
  RecordBook,
  RecordFollower,
  recordFormatOf,
  RecordType,
} from "./records.ts";

const READ_BYTES = 64 * 1024;
/** How long is held what a server acknowledges that has not shown that it accepts us. */
const UNACCEPTED_HOLD_MS = 5000;
/** An alert that came with the FIN is read by the library within this time. */
const LAST_ALERT_MS = 1000;
/** The same where it came with a reset: what looks like an alert may be data. */
const ALERT_BEFORE_RESET_MS = 250;
/** Twice as long without a write under way and without a record of what was written: dropped. */
const DROPPED_CHECK_MS = 1000;
/** What the library says of everything that it cannot verify. */
const UNVERIFIED = "UNABLE_TO_VERIFY_LEAF_SIGNATURE";

/** An established connection over TLS; made by `tlsDialer`. */
export class TlsWire implements Wire {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly #tcp: TcpWire;
  readonly #clock: Clock;
  readonly #options: EngineOptions;
  readonly #engine: TlsEngine;
  /** Where the engine can tell what the peer's program has read. */
  readonly #reading: Reading | undefined;
  /** Ciphertext that TCP has taken. */
  readonly #out: RecordFollower;
  /** Ciphertext on its way to TCP: a record of data in it is our last one of the handshake. */
  readonly #offered: RecordFollower;
  readonly #in: RecordFollower;
  readonly #baseBytes: number;
  /** Taken for that of TLS 1.3 until the handshake has said which. */
  #format = FORMAT_OF_1_3;
  #book: RecordBook | undefined;
  #session: TlsSession | undefined;
  #chain: readonly X509Certificate[] = [];
  #alpn: string | undefined;

  #sending = false;
  #finishedSent = false;
  #accepted = false;
  /** The handshake is over, and whoever waited for it has the connection. */
  #isReady = false;
  #lastWasAlert = false;
  #peerClosed = false;
  #closing = false;
  #finSent = false;
  #failure: WireError | undefined;
  /** The same of TCP's write, which is told once what came before it was read. */
  #writeFailure: unknown;
  #received: Uint8Array[] = [];
  #changed = Promise.withResolvers<void>();
  #cancelCheck: () => void = () => {};

  /**
   * Begins the handshake.
   *
   * @param tcp Nothing was written to it; taken over.
   * @throws {KernelCallError} The connection's counters cannot be read.
   */
  constructor(tcp: TcpWire, engineOf: EngineFactory, options: EngineOptions, clock: Clock) {
    this.#tcp = tcp;
    this.#clock = clock;
    this.#options = options;
    this.localAddress = tcp.localAddress;
    this.remoteAddress = tcp.remoteAddress;
    this.#baseBytes = tcp.sample().bytesAcked;
    this.#out = new RecordFollower((type, payload, end) => this.#book?.emitted(type, payload, end));
    this.#offered = new RecordFollower((type) => this.#finishedSent ||= type === RecordType.DATA);
    this.#in = new RecordFollower((type, payload) => this.#arrived(type, payload));
    const engine = engineOf(options, {
      send: (ciphertext) => this.#send(ciphertext),
      sent: () => this.#wake(),
      received: (plaintext) => {
        this.#received.push(plaintext);
        this.#wake();
      },
      keyUpdated: (asking) => this.#keyUpdated(asking),
      closed: () => {
        this.#peerClosed = true;
        this.#wake();
      },
      failed: (error) => this.#fail(error),
    });
    this.#engine = engine;
    this.#reading = engine.askForKeyUpdates &&
      new Reading({ clock, ask: (count) => engine.askForKeyUpdates?.(count) });
    void this.#listen();
  }

  get tls(): TlsSession {
    if (this.#session === undefined) throw new TypeError("tls before the handshake");
    return this.#session;
  }

  /** The server's certificates, its own first. */
  get chain(): readonly X509Certificate[] {
    return this.#chain;
  }

  get alpn(): string | undefined {
    return this.#alpn;
  }

  /** Whether the server has shown that it accepts us. */
  get accepted(): boolean {
    return this.#accepted;
  }

  get minHoldMs(): number {
    return this.#accepted ? 0 : UNACCEPTED_HOLD_MS;
  }

  /**
   * Waits for the end of the handshake, and then for the server to accept us.
   *
   * @throws {WireError} It failed.
   */
  async handshake(): Promise<void> {
    const handshake = await this.agreed();
    const { version, cipherSuite, alpn } = handshake;
    const { fingerprints, verified, acceptMs } = this.#options;
    if (fingerprints !== undefined) assertPinned(this.#chain, fingerprints);
    else if (!verified || !this.#engine.authorized) {
      throw wireError("TLS_UNVERIFIED", "the server was not verified");
    }
    const format = recordFormatOf(version, cipherSuite);
    if (format === undefined) {
      throw wireError(
        "TLS_SUITE",
        `what has arrived cannot be counted with ${version} ${cipherSuite}`,
      );
    }
    if (this.#options.alpn !== undefined && alpn === undefined) {
      throw wireError("TLS_ALPN", `the server takes none of ${this.#options.alpn.join(", ")}`);
    }
    this.#alpn = alpn;
    this.#session = {
      version,
      cipherSuite,
      serverCertificateExpiresAtMs: firstExpiry(this.#chain),
      clientCertificateExpiresAtMs: this.#options.clientCertificateExpiresAtMs,
    };
    // The library says that it has finished before its last record is out, which must
    // not be taken for the first one of data.
    await this.#deferred();
    await this.#until(() =>
      !this.#sending && !this.#engine.sending && !this.#out.midRecord &&
      (this.#finishedSent || !format.hidesTypes)
    );
    this.#format = format;
    this.#book = new RecordBook(format);
    // In TLS 1.2 the server's last record says that it has judged us.
    if (!format.hidesTypes) this.#accepted = true;
    if (this.#reading === undefined) await this.#untilOrFor(acceptMs, () => this.#accepted);
    else await this.#assertAnswers(this.#reading);
    // An alert that came with it is an error by then.
    await this.#deferred();
    if (this.#failure !== undefined) throw this.#failure;
    this.#isReady = true;
  }

  /**
   * Who does not answer is found out before anything is sent. Who does has accepted us.
   *
   * @throws {WireError} It does not, or it refuses us.
   */
  async #assertAnswers(reading: Reading): Promise<void> {
    const { handshakeTimeoutMs } = this.#options;
    reading.ping();
    await this.#untilOrFor(handshakeTimeoutMs, () => !reading.awaitsAnswer);
    if (!reading.awaitsAnswer) return;
    throw new WireError(
      "TLS_NO_KEY_UPDATE",
      `the server has not answered a TLS KeyUpdate within ${handshakeTimeoutMs / 1000} s, as ` +
        `gnutls and rustls do not (TLS_NO_KEY_UPDATE): nobody can tell what its program has ` +
        `read, and nothing was sent. confirm "kernel" does without that`,
    );
  }

  /**
   * Waits for the end of the handshake alone: then there is `chain`.
   *
   * @throws {WireError} It failed.
   */
  async agreed(): Promise<Handshake> {
    const { handshakeTimeoutMs } = this.#options;
    const cancel = this.#clock.setTimer(handshakeTimeoutMs, () =>
      this.#fail(
        wireError(
          "ETIMEDOUT",
          `the TLS handshake was not over within ${handshakeTimeoutMs / 1000} s: is TLS spoken ` +
            `on this port?`,
        ),
      ));
    let over: Handshake | undefined;
    this.#engine.handshake().then((handshake) => {
      over = handshake;
      this.#wake();
    }, (error) => this.#fail(error));
    try {
      await this.#until(() => over !== undefined);
    } finally {
      cancel();
    }
    if (over === undefined) throw new TypeError("a handshake that is over has no outcome");
    this.#chain = over.chain.map((der) => new X509Certificate(der));
    return over;
  }

  /** Hands bytes to the TLS library, maybe a part of them, once those before are with the kernel. */
  write(bytes: Uint8Array): Promise<number> {
    return handled((async () => {
      const book = this.#books;
      await this.#until(() => !book.expectsRecords);
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#closing) throw wireError("EPIPE", "close_notify was sent");
      const taken = bytesToWrite(bytes.length);
      book.expect(taken);
      // The library keeps what it was given, and the caller uses its buffer again.
      this.#engine.write(bytes.slice(0, taken));
      this.#reading?.wrote(book.writtenBytes);
      this.#checkDropped(book.records, 0);
      return taken;
    })());
  }

  /** Reads what the peer sent, `null` at its close_notify. */
  read(buffer: Uint8Array): Promise<number | null> {
    return handled((async () => {
      await this.#until(() => this.#received.length > 0 || this.#peerClosed);
      const chunk = this.#received[0];
      if (chunk === undefined) return null;
      const taken = Math.min(chunk.length, buffer.length);
      buffer.set(chunk.subarray(0, taken));
      if (taken === chunk.length) this.#received.shift();
      else this.#received[0] = chunk.subarray(taken);
      return taken;
    })());
  }

  /**
   * The kernel's counters in plaintext. Both ways of counting are translated, each for itself,
   * so that they can still be held against each other.
   */
  sample(): SocketSample {
    const raw = this.#tcp.sample();
    const book = this.#books;
    const takenBytes = this.#out.offset;
    const ackedCipherBytes = raw.bytesAcked - this.#baseBytes;
    const comparable = !this.#sending && !this.#finSent && raw.state !== TcpState.CLOSE;
    const byQueueBytes = takenBytes - raw.sendQueueBytes;
    if (comparable && ackedCipherBytes > byQueueBytes) {
      throw new KernelCallError(
        "TCP_INFO",
        `tcpi_bytes_acked says that ${ackedCipherBytes} bytes of ciphertext were acknowledged, ` +
          `written − SIOCOUTQ says ${byQueueBytes}. Nothing was confirmed by this reading. ` +
          `Please report it with your kernel's version.`,
      );
    }
    book.forget(ackedCipherBytes);
    const ackedBytes = book.plainWithin(ackedCipherBytes);
    const goneBytes = comparable ? book.plainWithin(byQueueBytes) : ackedBytes;
    const waitingBytes = book.writtenBytes - goneBytes;
    const finAcked = this.#finSent && ackedCipherBytes > takenBytes;
    return {
      ...raw,
      bytesAcked: 1 + ackedBytes + (finAcked ? 1 : 0),
      sendQueueBytes: waitingBytes + (this.#finSent && !finAcked ? 1 : 0),
      // What the library has not given out yet was not sent either.
      notSentBytes: raw.notSentBytes >= raw.sendQueueBytes
        ? waitingBytes
        : Math.min(waitingBytes, raw.notSentBytes),
      ...(this.#reading === undefined ? {} : { readBytes: 1 + this.#reading.readBytes }),
    };
  }

  takeSocketError(): string | undefined {
    return this.#tcp.takeSocketError();
  }

  askPeer(asking: boolean): void {
    this.#tcp.askPeer(asking);
  }

  localFault(): LocalFault | undefined {
    return this.#tcp.localFault();
  }

  noteLink(): void {
    this.#tcp.noteLink?.();
  }

  /** Sends close_notify and then our FIN. */
  shutdownWrite(): void {
    if (this.#closing) return;
    this.#closing = true;
    (async () => {
      await this.#until(() => !this.#book?.expectsRecords && !this.#sending);
      this.#reading?.pingForRest();
      const before = this.#out.offset;
      this.#engine.close();
      await this.#until(() =>
        this.#out.offset > before && !this.#out.midRecord && !this.#sending && !this.#engine.sending
      );
      this.#tcp.shutdownWrite();
      this.#finSent = true;
    })().catch((error) => this.#fail(error));
  }

  abort(): void {
    this.#leave();
    this.#tcp.abort();
  }

  close(): void {
    this.#leave();
    this.#tcp.close();
  }

  #leave(): void {
    this.#fail(new WireError("ECANCELED", "The connection was given up here."));
    this.#cancelCheck();
    this.#reading?.end();
    this.#engine.destroy();
  }

  get #books(): RecordBook {
    if (this.#book === undefined) throw new TypeError("the handshake is not over");
    return this.#book;
  }

  async #send(ciphertext: Uint8Array): Promise<void> {
    this.#sending = true;
    try {
      if (this.#book === undefined) this.#offered.feed(ciphertext);
      for (let offset = 0; offset < ciphertext.length;) {
        const taken = await this.#tcp.write(ciphertext.subarray(offset));
        if (taken < 1) throw new WireError("UNKNOWN", "A write that works takes something.");
        this.#out.feed(ciphertext.subarray(offset, offset + taken));
        offset += taken;
        this.#wake();
      }
    } catch (error) {
      // A reset may be told here first, while the alert before it is still to be read.
      this.#writeFailure = error;
      await this.#untilOrFor(ALERT_BEFORE_RESET_MS, () => this.#peerClosed).catch(() => {});
      this.#fail(error);
      throw error;
    } finally {
      this.#sending = false;
      this.#wake();
    }
  }

  async #listen(): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    try {
      for (;;) {
        const count = await this.#tcp.read(buffer);
        if (count === null) break;
        const ciphertext = buffer.slice(0, count);
        // Before the library: what it makes of them has to find them counted.
        this.#in.feed(ciphertext);
        this.#engine.feed(ciphertext);
      }
      // Only an alert can be the close_notify that the library has not told of yet.
      if (this.#lastWasAlert) await this.#untilOrFor(LAST_ALERT_MS, () => this.#peerClosed);
      if (this.#peerClosed) return;
      // Who asks second finds an end in the place of the reset.
      if (this.#writeFailure !== undefined) throw this.#writeFailure;
      // We have said that it is over; or it died, and whoever owns it by now finds that out.
      const isTold = this.#finSent || this.#tcp.sample().state === TcpState.CLOSE;
      if (this.#isReady && isTold) {
        this.#peerClosed = true;
        this.#wake();
      } else {
        const words = this.#book === undefined
          ? "the server ended the connection during the TLS handshake"
          : "the server's end of the connection was cut off: a FIN without TLS's close_notify, as " +
            "a killed process leaves it";
        this.#fail(wireError("TLS_TRUNCATED", words));
      }
    } catch (error) {
      if (this.#lastWasAlert) {
        await this.#untilOrFor(ALERT_BEFORE_RESET_MS, () => false).catch(() => {});
      }
      this.#fail(error);
    }
  }

  #arrived(type: number, payloadBytes: number): void {
    const noAlert = type !== RecordType.ALERT && isNoAlert(this.#format, payloadBytes);
    this.#lastWasAlert = !noAlert;
    if (!noAlert || type !== RecordType.DATA || !this.#finishedSent || this.#accepted) return;
    this.#accepted = true;
    this.#wake();
  }

  /** The peer has changed the key that it sends with: mostly an answer. */
  #keyUpdated(asking: boolean): void {
    const reading = this.#reading;
    if (reading === undefined || this.#failure !== undefined) return;
    try {
      const ackedBytes = () =>
        this.#book?.plainWithin(this.#tcp.sample().bytesAcked - this.#baseBytes) ?? 0;
      if (reading.keyUpdated(asking, ackedBytes)) this.#wake();
    } catch (error) {
      reading.end();
      this.#fail(error);
    }
  }

  /**
   * A library that is given bytes while it is closing, or whose keys are used up, says
   * nothing and sends nothing: then nobody would ever be told.
   */
  #checkDropped(recordsBefore: number, idleChecks: number): void {
    this.#cancelCheck();
    if (this.#failure !== undefined) return;
    this.#cancelCheck = this.#clock.setTimer(DROPPED_CHECK_MS, () => {
      const { expectsRecords, records } = this.#books;
      if (!expectsRecords) return;
      const idle = !this.#sending && !this.#engine.sending && records === recordsBefore;
      if (!idle) return this.#checkDropped(records, 0);
      if (idleChecks === 0) return this.#checkDropped(records, 1);
      this.#fail(wireError("TLS_DROPPED", "the TLS library took bytes and did not send them"));
    });
  }

  #fail(error: unknown): void {
    this.#failure ??= error instanceof WireError
      ? error
      : error instanceof KernelCallError
      ? new WireError("UNKNOWN", error.message, { cause: error })
      : this.#engineFailure(error);
    this.#wake();
  }

  #engineFailure(error: unknown): WireError {
    const named = error instanceof Error && "code" in error && typeof error.code === "string"
      ? error.code
      : undefined;
    const hasCertificate = this.#options.cert !== undefined;
    const alert = alertWords(messageOf(error), { isUp: this.#isReady, hasCertificate });
    if (alert !== undefined) {
      const expiredAtMs = this.#options.clientCertificateExpiresAtMs;
      const ours = expiredAtMs !== undefined && expiredAtMs < this.#clock.wallMs()
        ? `. Our own certificate expired on ${new Date(expiredAtMs).toISOString().slice(0, 10)}`
        : "";
      return wireError(alert.code, alert.words + ours, error);
    }
    // Without a chain to verify, only the signature of the handshake is left to fail.
    if (named === UNVERIFIED && !this.#options.verified) return keyNotProven(error);
    const code = named ?? "TLS_ERROR";
    return wireError(code, `TLS failed: ${messageOf(error)}`, error);
  }

  #deferred(): Promise<void> {
    return new Promise((resolve) => this.#clock.defer(resolve));
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Also ends by a failure, which is thrown. */
  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure !== undefined) throw this.#failure;
      await this.#changed.promise;
    }
  }

  async #untilOrFor(ms: number, condition: () => boolean): Promise<void> {
    let late = false;
    const cancel = this.#clock.setTimer(ms, () => {
      late = true;
      this.#wake();
    });
    try {
      await this.#until(() => late || condition());
    } finally {
      cancel();
    }
  }
}

/** Whoever has moved on must not end the process by not looking at what became of it. */
function handled<T>(result: Promise<T>): Promise<T> {
  result.catch(() => {});
  return result;
}
