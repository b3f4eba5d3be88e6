/**
 * A process that enqueues, as the soak sees it.
 *
 * @module
 */

import { LineChild, type Spawn } from "../lab/child.ts";
import { nowMs } from "../lab/packets.ts";
import { type LogEvent, parseLogLine } from "../lab/sender_log.ts";

const PROCESS = new URL("./process.ts", import.meta.url).pathname;

/** How to start a {@linkcode ProducerProcess}. */
export interface ProducerOptions {
  /** Where it runs. */
  readonly spawn: Spawn;
  /** Its packets carry this name; each life of a process has its own. */
  readonly producer: string;
  readonly perSecond: number;
  readonly packetBytes: number;
  readonly queue: string;
  /** Sends too, where it is given; otherwise it only enqueues. */
  readonly send?: { readonly remote: string; readonly holdMs: number };
  /** Told of each log line. */
  readonly onLog: (event: LogEvent) => void;
}

/** A running `process.ts`. */
export class ProducerProcess {
  /** The name that its packets carry. */
  readonly producer: string;
  /** Packets for which enqueue has resolved, counted from number 0. */
  stored = 0;
  /** Packets that lay in the queue when it was opened. */
  readonly onDisk: Promise<number>;
  /** Resolves at its end, once all that it said is read. */
  readonly ended: Promise<Deno.CommandStatus>;
  /** Its last log line. */
  lastWords = "";
  readonly #child: LineChild;
  readonly #liveAsked: ((bytes: number) => void)[] = [];
  readonly #onLog: (event: LogEvent) => void;

  constructor(options: ProducerOptions) {
    const { spawn, producer, perSecond, packetBytes, queue, send, onLog } = options;
    this.producer = producer;
    this.#onLog = onLog;
    this.#child = new LineChild(spawn, Deno.execPath(), [
      ...["run", "--quiet", "--no-prompt", "--allow-all", "--v8-flags=--expose-gc", PROCESS],
      ...[send === undefined ? "enqueue" : "send", producer, perSecond, packetBytes, queue].map(
        String,
      ),
      ...(send === undefined ? [] : [send.remote, String(send.holdMs)]),
    ]);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    promise.catch(() => {});
    this.onDisk = promise;
    this.ended = this.#hear(resolve).then(async () => {
      const status = await this.#child.process.status;
      reject(new Error(`${producer} ended (${status.signal ?? status.code}): ${this.lastWords}`));
      await this.#child[Symbol.asyncDispose]();
      return status;
    });
  }

  get pid(): number {
    return this.#child.process.pid;
  }

  /** Objects and buffers that are alive in it; undefined if it ends before it answers. */
  async liveBytes(): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#liveAsked.push(resolve);
    await this.#child.say("live").catch(() => {});
    return await Promise.race([promise, this.ended.then(() => undefined)]);
  }

  /** Lets it enqueue no more and deliver the rest; {@linkcode ended} tells how that went. */
  async end(): Promise<void> {
    await this.#child.say("end");
  }

  /** kill -9; resolves once all that it had said is read. */
  async kill(): Promise<void> {
    try {
      this.#child.process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.ended;
  }

  async #hear(onDisk: (packets: number) => void): Promise<void> {
    for (;;) {
      let line;
      try {
        line = await this.#child.hear();
      } catch {
        return; // It has ended; a line cut short by its death says nothing.
      }
      const said: { onDisk?: number; stored?: number; liveBytes?: number } = JSON.parse(line);
      if (said.onDisk !== undefined) onDisk(said.onDisk);
      else if (said.stored !== undefined) this.stored = said.stored;
      else if (said.liveBytes !== undefined) this.#liveAsked.shift()?.(said.liveBytes);
      else {
        const event = parseLogLine(line, nowMs());
        this.lastWords = event.message;
        this.#onLog(event);
      }
    }
  }
}
