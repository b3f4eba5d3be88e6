/**
 * A server of the field ring as a process: killed, ended, started again on the same port.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Place, Start } from "./case.ts";
import { remember } from "./running.ts";

const READY_WITHIN_MS = 60_000;
const END_WITHIN_MS = 10_000;
const POLL_MS = 20;
const DOWN_MS = 1500;

/** A port that is free now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** One server through its lives. */
export class ServerProcess implements AsyncDisposable {
  readonly #start: () => Start;
  readonly #place: Place;
  #child: Deno.ChildProcess | undefined;
  #listensAt: number | string = 0;

  /** @param start Called for each of its lives. */
  constructor(start: (place: Place) => Start, place: Place) {
    this.#start = () => start(place);
    this.#place = place;
  }

  /** Starts it; resolves once it listens. */
  async start(): Promise<void> {
    const deadlineMs = performance.now() + READY_WITHIN_MS;
    // One that finds its port still taken ends; it gets another chance.
    while (this.#child === undefined || !await isListening(this.#listensAt)) {
      if (performance.now() > deadlineMs) {
        throw new Error(
          `the server does not listen at ${this.#listensAt}: ${this.#lastWords()}`,
        );
      }
      if (this.#child === undefined) this.#spawn();
      await delay(POLL_MS);
    }
  }

  /**
   * Ends it in this way, leaves it down for 1.5 s, and starts it again.
   *
   * @param meanwhile Begins once it has ended.
   */
  async restart(signal: "SIGKILL" | "SIGTERM", meanwhile: () => Promise<void>): Promise<void> {
    await this.end(signal);
    await Promise.all([meanwhile(), delay(DOWN_MS).then(() => this.start())]);
  }

  /** Sends the signal to it and to its own children; kills what does not end. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#signal(child, signal);
    const timer = setTimeout(() => this.#signal(child, "SIGKILL"), END_WITHIN_MS);
    await child.status;
    clearTimeout(timer);
    this.#signal(child, "SIGKILL"); // what it has left behind
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end("SIGKILL");
  }

  #spawn(): void {
    const { work, output, port } = this.#place;
    const { command, args, env, cwd, prints, listensAt = port } = this.#start();
    this.#listensAt = listensAt;
    const log = prints ? output : `${work}/server.log`;
    const child = new Deno.Command("sh", {
      args: ["-c", `log=$1; shift; exec "$@" >>"$log" 2>&1`, "sh", log, command, ...args],
      ...(env === undefined ? {} : { env: { ...env } }),
      cwd: cwd ?? work,
      stdin: "null",
      stdout: "null",
      stderr: "null",
      // A process group of its own, so that its children can be ended with it.
      detached: true,
    }).spawn();
    this.#child = child;
    remember(child, () => Deno.kill(-child.pid, "SIGKILL"));
    child.status.then(() => {
      if (this.#child === child) this.#child = undefined;
    });
  }

  #signal(child: Deno.ChildProcess, signal: "SIGKILL" | "SIGTERM"): void {
    try {
      Deno.kill(-child.pid, signal);
    } catch {
      // It has ended by itself.
    }
  }

  #lastWords(): string {
    try {
      return Deno.readTextFileSync(`${this.#place.work}/server.log`).trim().split("\n").at(-1) ??
        "";
    } catch {
      return "it has said nothing";
    }
  }
}

/** Waits until somebody listens there. */
export async function untilListening(port: number): Promise<void> {
  const deadlineMs = performance.now() + READY_WITHIN_MS;
  while (!await isListening(port)) {
    if (performance.now() > deadlineMs) throw new Error(`nobody listens at port ${port}`);
    await delay(POLL_MS);
  }
}

/**
 * Whether somebody listens at a port, or on a Unix socket; asked of the kernel, so that no server sees a connection.
 * A program reads the tables: Deno itself reads nothing there without all permissions.
 */
export async function isListening(port: number | string): Promise<boolean> {
  const { stdout } = await new Deno.Command("cat", {
    args: typeof port === "string" ? ["/proc/net/unix"] : ["/proc/net/tcp", "/proc/net/tcp6"],
    stderr: "null", // A kernel without IPv6 has one of them.
  }).output();
  if (typeof port === "string") {
    // Flags: a socket that accepts. A path has nothing behind it.
    const rows = new TextDecoder().decode(stdout).split("\n");
    return rows.some((row) => row.endsWith(` ${port}`) && / 00010000 0001 01 /.test(row));
  }
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  return new RegExp(`^\\s*\\d+: [0-9A-F]+:${hex} [0-9A-F]+:0000 0A `, "m")
    .test(new TextDecoder().decode(stdout));
}
