import { systemClock } from "../../base/clock.ts";
import { within } from "../../base/waits.ts";
import { batchLimitsFor, InputPump, type InputPumpOptions } from "../../framing/input_pump.ts";
import type { PacketSplitter } from "../../framing/splitter.ts";
import type { OutboundQueue } from "../../queue/queue.ts";
import { formatPackets } from "../terminal/figures.ts";
import { inFlags } from "../terminal/flags.ts";
import type { RouteLog } from "../terminal/output.ts";
import { named, type Stdio } from "../terminal/stdio.ts";
import type { Intake } from "./plan.ts";

/** How long the rest of a packet may take to come once the command is to stop. */
const PACKET_GRACE_MS = 1000;

export interface StdinIntakeOptions {
  readonly splitter: PacketSplitter;
  readonly store: InputPumpOptions["store"];
  readonly limits: OutboundQueue["limits"];
  readonly follow: boolean;
  readonly log: RouteLog;
  readonly io: Stdio;
}

export class StdinIntake implements Intake {
  readonly origin = "the pipe";
  readonly #splitter: PacketSplitter;
  readonly #pump: InputPump;
  readonly #follow: boolean;
  readonly #log: RouteLog;

  constructor({ splitter, store, limits, follow, log, io }: StdinIntakeOptions) {
    this.#splitter = splitter;
    this.#follow = follow;
    this.#log = log;
    this.#pump = new InputPump({
      source: named(io.stdin, "stdin"),
      splitter,
      store,
      ...batchLimitsFor(limits),
      clock: systemClock,
      onTrouble: (words) => log.warn(words),
      onDoubt: (words) => log.warn(inFlags(words)),
    });
  }

  get unstoredPackets(): number {
    return this.#pump.unstoredPackets;
  }

  /** A fault of the framing has its own words. */
  get unfinishedBytes(): number {
    return this.#splitter.fault === undefined ? this.#pump.unfinishedBytes : 0;
  }

  async run(): Promise<void> {
    await this.#pump.run();
    this.#log.debug(`end of input after ${formatPackets(this.#pump.storedPackets)}`);
    if (this.#follow) await new Promise<never>(() => {});
  }

  async stop(): Promise<void> {
    this.#pump.stop();
    // Whoever writes is most likely being stopped as well, and its last packet is on the way.
    await within(PACKET_GRACE_MS, this.#pump.whole());
    await this.#pump.stored();
  }
}
