/**
 * Writes packets into the command's standard input at a steady rate.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { packetOf } from "./packets.ts";
import type { Traffic } from "./scenario.ts";
import type { SenderProcess } from "./sender_process.ts";

/** The letter of its packets. */
export const PRODUCER = "p";
const TICK_MS = 5;
/** More at once would wait in the pipe's buffer of this process, not in the pipe. */
const MAX_WRITE_BYTES = 32 * 1024;

/**
 * A producer that has its own copy of a packet only until the queue has it: when
 * the sender dies, it goes on with the first packet that is not on disk.
 */
export class Producer {
  readonly #traffic: Traffic;
  #sender: SenderProcess | undefined;
  #given = 0;
  #budget = 0;
  #running = false;
  #atMs = 0;
  #loop: Promise<void>;
  #stopped = false;
  #abandoned = false;

  /** Writes nothing before {@linkcode resume}. */
  constructor(traffic: Traffic) {
    this.#traffic = traffic;
    this.#loop = this.#run();
  }

  /** Packets that the pipe has taken so far, in order from number 0. */
  get given(): number {
    return this.#given;
  }

  /** All packets that were given, as they go on the wire. */
  packets(): string[] {
    const { bytes } = this.#traffic;
    return Array.from({ length: this.#given }, (_, number) => packetOf(PRODUCER, number, bytes));
  }

  /** Begins or goes on. */
  resume(): void {
    this.#running = true;
    this.#atMs = performance.now();
  }

  /** Writes nothing until {@linkcode resume}. */
  pause(): void {
    this.#running = false;
  }

  /**
   * Writes to this sender from now on.
   *
   * @param stored How many packets its queue has had so far.
   */
  attach(sender: SenderProcess, stored: number): void {
    this.#budget += this.#given - stored;
    this.#given = stored;
    this.#sender = sender;
  }

  /** The sender is gone. */
  detach(): void {
    this.#sender = undefined;
  }

  /** Writes what is due, or everything if the number of packets is fixed; then no more. */
  async finish(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  /** Writes nothing more, whatever is due. */
  async abandon(): Promise<void> {
    this.#running = false;
    this.#abandoned = true;
    await this.#loop;
  }

  get #left(): number {
    return (this.#traffic.packets ?? Infinity) - this.#given;
  }

  async #run(): Promise<void> {
    const { perSecond, bytes, packets } = this.#traffic;
    while (!this.#abandoned && !(this.#stopped && (packets === undefined || this.#left === 0))) {
      await delay(TICK_MS);
      const nowMs = performance.now();
      if (this.#running) this.#budget += (nowMs - this.#atMs) * perSecond / 1000;
      this.#atMs = nowMs;
      const sender = this.#sender;
      const count = Math.floor(Math.min(this.#budget, this.#left, MAX_WRITE_BYTES / bytes));
      if (sender === undefined || count < 1) continue;
      const from = this.#given;
      const chunk = Array.from(
        { length: count },
        (_, i) => packetOf(PRODUCER, from + i, bytes),
      ).join("");
      const written = await sender.write(chunk);
      // Another sender may have taken its place meanwhile, and knows better.
      if (!written || this.#sender !== sender) continue;
      this.#given += count;
      this.#budget -= count;
    }
  }
}
