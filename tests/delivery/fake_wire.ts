/**
 * A connection in a test's hands.
 *
 * @module
 */

import { type KernelCallError, WireError } from "../../src/base/errors.ts";
import type { LocalFault, SocketSample, Wire, WireOutcome } from "../../src/base/ports.ts";

/** A wire whose kernel says what the test wants; writes and reads wait for the test. */
export class FakeWire implements Wire {
  readonly localAddress = "192.0.2.1:50000";
  readonly remoteAddress = "192.0.2.2:4000";
  /** The next samples; ESTABLISHED with our SYN counted, as after connect. */
  state = 1;
  bytesAcked = 1;
  sendQueueBytes = 0;
  lastAckMs = 0;
  probes = 0;
  sampleError: Error | undefined;
  socketError: string | undefined;
  fault: LocalFault | undefined;
  linksNoted = 0;
  finError: KernelCallError | undefined;
  askError: Error | undefined;
  sendWindowBytes = 65535;
  readBytes: number | undefined;
  minHoldMs = 0;
  /** How many bytes each write takes at most. */
  takesBytes = Infinity;
  readonly written: string[] = [];
  readonly log: string[] = [];
  #write: PromiseWithResolvers<number> | undefined;
  #read: PromiseWithResolvers<number | null> | undefined;
  #buffer: Uint8Array = new Uint8Array();
  holdsWrites = false;
  /** Called at each sample, before the kernel is read. */
  onSample = (): void => {};

  write(bytes: Uint8Array): Promise<number> {
    const taken = Math.min(bytes.length, this.takesBytes);
    this.written.push(new TextDecoder().decode(bytes.subarray(0, taken)));
    if (!this.holdsWrites) return Promise.resolve(taken);
    this.#write = Promise.withResolvers();
    return this.#write.promise;
  }

  read(buffer: Uint8Array): Promise<number | null> {
    this.#buffer = buffer;
    this.#read = Promise.withResolvers();
    return this.#read.promise;
  }

  peerSays(text: string): void {
    this.#read?.resolve(new TextEncoder().encodeInto(text, this.#buffer).written);
  }

  failWrite(code: string): void {
    this.#write?.reject(new WireError(code, code));
  }

  failRead(code: string): void {
    this.#read?.reject(new WireError(code, code));
  }

  peerFin(): void {
    this.#read?.resolve(null);
  }

  sample(): SocketSample {
    this.onSample();
    if (this.sampleError !== undefined) throw this.sampleError;
    return {
      state: this.state,
      sendQueueBytes: this.sendQueueBytes,
      notSentBytes: 0,
      bytesAcked: this.bytesAcked,
      unackedSegments: 0,
      sendMssBytes: 1448,
      sendWindowBytes: this.sendWindowBytes,
      windowLimitedUs: 0,
      rttUs: 100,
      lastAckMs: this.lastAckMs,
      probes: this.probes,
      retransmits: 0,
      totalRetransmits: 0,
      hangup: this.state === 7,
      ...(this.readBytes === undefined ? {} : { readBytes: this.readBytes }),
    };
  }

  takeSocketError(): string | undefined {
    this.log.push("SO_ERROR");
    const code = this.socketError;
    this.socketError = undefined;
    return code;
  }

  askPeer(asking: boolean): void {
    this.log.push(asking ? "ask" : "ask no more");
    if (this.askError !== undefined) throw this.askError;
  }

  noteLink(): void {
    this.linksNoted++;
  }

  localFault(): LocalFault | undefined {
    return this.fault;
  }

  shutdownWrite(): void {
    this.log.push("FIN");
    if (this.finError !== undefined) throw this.finError;
  }

  abort(): void {
    this.log.push("abort");
  }

  close(): void {
    this.log.push("close");
  }

  concluded(outcome: WireOutcome): void {
    this.log.push(`concluded ${JSON.stringify(outcome)}`);
  }
}
