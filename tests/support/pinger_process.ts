/**
 * Starts a pinger and gives it commands.
 *
 * @module
 */

import { LineChild, type Spawn } from "../../lab/child.ts";
import type { PingerAnswer } from "./pinger.ts";

const PINGER = new URL("./pinger.ts", import.meta.url).pathname;

/** A running pinger; see the table in pinger.ts for its commands. */
export class Pinger implements AsyncDisposable {
  /** The process, for signals. */
  readonly child: LineChild;

  /** Starts one that will connect to `address`:`port`. */
  constructor(spawn: Spawn, address: string, port: number) {
    this.child = new LineChild(spawn, Deno.execPath(), [
      ...["run", "--quiet", "--no-config", "--allow-all", PINGER],
      ...[address, String(port)],
    ]);
  }

  /** Carries out one command. */
  async do(command: string): Promise<PingerAnswer> {
    await this.child.say(command);
    return JSON.parse(await this.child.hear());
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}
