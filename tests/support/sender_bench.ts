/**
 * A sender with what it needs.
 *
 * @module
 */

import type { SenderStatus } from "../../src/delivery/status.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ScriptedServer } from "./scripted_server.ts";
import { TempDir } from "./temp_dir.ts";
import { within } from "./until.ts";

/** Senders on a queue of their own, and the server they deliver to; they go with the test. */
export class SenderBench implements AsyncDisposable {
  readonly dir: TempDir = new TempDir();
  readonly server: ScriptedServer = new ScriptedServer().start();
  readonly #senders: Sender[] = [];
  readonly #defaults: Partial<SenderOptions>;

  /** @param defaults Holds for each sender that says nothing else. */
  constructor(defaults: Partial<SenderOptions> = {}) {
    this.#defaults = defaults;
  }

  /** Opens a sender, with the defaults where nothing else is asked for. */
  async open(options: Partial<SenderOptions> = {}): Promise<Sender> {
    const { server: { remote }, dir: { queue } } = this;
    const sender = await Sender.open({ queue, remote, ...this.#defaults, ...options });
    this.#senders.push(sender);
    return sender;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#senders.map((sender) => sender.close({ deliverTimeoutMs: 0 })));
    await this.server[Symbol.asyncDispose]();
    this.dir[Symbol.dispose]();
  }
}

/** Waits for a status that fits. */
export function seen(
  sender: Sender,
  fits: (status: SenderStatus) => boolean,
): Promise<SenderStatus> {
  const find = async () => {
    for await (const status of sender.status()) if (fits(status)) return status;
    throw new Error("the sender ended before");
  };
  return within("a status that fits", find());
}
