/**
 * Starts the benchmark's programs, here or inside a network namespace.
 *
 * @module
 */

import { LineChild, type Spawn, spawnHere } from "../lab/child.ts";
import type { SinkOptions, SinkQuestion, SinkReport } from "./sink.ts";

/** How a program is started. */
export interface RunOptions {
  /** How to spawn it: here, or inside a network namespace. */
  readonly spawn?: Spawn;
  /** The `bench` directory to take it from, for another version's. Default: this one. */
  readonly directory?: URL | undefined;
}

function argumentsOf(program: string, options: unknown, directory?: URL): string[] {
  const path = new URL(program, directory ?? import.meta.url).pathname;
  return ["run", "--quiet", "--no-lock", "--allow-all", path, JSON.stringify(options)];
}

/** Runs a program to its end and returns the one line of JSON that it prints. */
export async function runProgram<Report>(
  program: string,
  options: unknown,
  { spawn = spawnHere, directory }: RunOptions = {},
): Promise<Report> {
  const child = spawn(Deno.execPath(), argumentsOf(program, options, directory), {
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  });
  const { success, stdout } = await child.output();
  if (!success) throw new Error(`${program} failed; see its standard error`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** A running sink. */
export class Sink implements AsyncDisposable {
  readonly port: number;
  readonly #child: LineChild;

  private constructor(child: LineChild, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts one; resolves once it listens. */
  static async start(options: SinkOptions, spawn: Spawn = spawnHere): Promise<Sink> {
    const child = new LineChild(spawn, Deno.execPath(), argumentsOf("sink.ts", options));
    return new Sink(child, Number(JSON.parse(await child.hear()).port));
  }

  /** What it has received. */
  async report(question: SinkQuestion = {}): Promise<SinkReport> {
    await this.#child.say(JSON.stringify(question));
    return JSON.parse(await this.#child.hear());
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
