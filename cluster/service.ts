/**
 * A command that runs on a machine of the ring as a service.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import type { CommandEnd, CommandProcess } from "../lab/command_process.ts";
import type { LogEvent } from "../lab/sender_log.ts";
import type { Host } from "./network.ts";

/** Before a command that has ended is started again. */
const RESTART_MS = 500;

/** How a command ended that nobody had killed. */
export type ServiceEnd = CommandEnd & { readonly host: Host };

/** How to run a {@linkcode Service}. */
export interface ServiceOptions {
  readonly host: Host;
  /** Starts the command; `onEvent` has to be told of each of its log lines. */
  readonly run: (onEvent: (event: LogEvent) => void) => CommandProcess;
  /** What it says once it does what it is for. */
  readonly ready: RegExp;
  /** The file that its log lines are added to. */
  readonly log: string;
}

/** A command that is started again when it ends by itself, as a service manager would. */
export class Service implements AsyncDisposable {
  /** Those that nobody had killed. */
  readonly ends: ServiceEnd[] = [];
  readonly #options: ServiceOptions;
  #process: CommandProcess | undefined;
  #isReady = false;
  #isOver = false;

  /** Starts nothing yet. */
  constructor(options: ServiceOptions) {
    this.#options = options;
  }

  /** Whether the command that runs has said that it does what it is for. */
  get isReady(): boolean {
    return this.#process !== undefined && this.#isReady;
  }

  /** Starts the command unless it runs. */
  start(): void {
    if (this.#isOver || this.#process !== undefined) return;
    const { host, run, ready, log } = this.#options;
    this.#isReady = false;
    const process = run(({ atMs, message }) => {
      const line = `${new Date(atMs).toISOString()} ${host}: ${message}\n`;
      Deno.writeTextFileSync(log, line, { append: true });
      if (this.#process === process && ready.test(message)) this.#isReady = true;
    });
    this.#process = process;
    process.ended.then(async (end) => {
      if (this.#process !== process) return;
      this.#process = undefined;
      this.ends.push({ ...end, host });
      await delay(RESTART_MS);
      this.start();
    });
  }

  /** Sends a signal to the command that runs. */
  signal(name: Deno.Signal): void {
    this.#process?.signal(name);
  }

  /** kill -9; nothing is started before {@linkcode Service.start}. */
  async kill(): Promise<void> {
    await this.#take()?.kill();
  }

  /** Has it end in order, for good. */
  async stop(): Promise<void> {
    this.#isOver = true;
    const process = this.#take();
    if (process === undefined) return;
    process.signal("SIGTERM");
    this.ends.push({ ...await process.ended, host: this.#options.host });
  }

  /** Kills it for good. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.kill();
  }

  /** Whose end is no event any more. */
  #take(): CommandProcess | undefined {
    const process = this.#process;
    this.#process = undefined;
    return process;
  }
}
