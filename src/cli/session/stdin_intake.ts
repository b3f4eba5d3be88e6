import { systemClock } from "../../base/clock.ts";
import { within } from "../../base/waits.ts";
import { batchLimitsFor, InputPump, type InputPumpOptions } from "../../framing/input_pump.ts";
import type { PacketSplitter } from "../../framing/splitter.ts";
import { libc } from "../../kernel/libc.ts";
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
  readonly isOpen?: InputPumpOptions["isOpen"];
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

  constructor({ splitter, store, isOpen, limits, follow, log, io }: StdinIntakeOptions) {
    this.#splitter = splitter;
    this.#follow = follow;
    this.#log = log;
    this.#pump = new InputPump({
      source: {
        ...named(io.stdin, "stdin"),
        untilReadable: io.stdin === Deno.stdin ? readableStdin() : undefined,
      },
      splitter,
      store,
      ...(isOpen === undefined ? {} : { isOpen }),
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

  /** Resolves once what was read is stored, or cannot be. */
  async settled(): Promise<void> {
    await this.#pump.stored();
  }
}

/** `struct pollfd { int fd; short events, revents; }`: POLLIN of stdin. */
const POLLFD = new Int32Array([0, 1]);
/** A thread that nobody needs any more is free again by then. */
const WAIT_MS = 1000;
/** A signal may have cut it short. */
const POLL_ATTEMPTS = 3;

/**
 * A read that has begun cannot be taken back, and what it brings once nobody stores it any more
 * would be lost: it is begun when it does not wait.
 *
 * @returns Resolves once a read would not wait, also for the end or an error; or where the kernel,
 *   or a sandbox, does not tell. Undefined: this process may not call the C library.
 */
function readableStdin(): (() => Promise<void>) | undefined {
  const bytes = BigInt(POLLFD.byteLength);
  let inThread: bigint;
  try {
    // A thread works on memory that stays where it is: as long as the process lives.
    inThread = libc().calloc(1n, bytes);
  } catch {
    return undefined;
  }
  if (inThread === 0n) return undefined;
  libc().memcpyTo(inThread, POLLFD, bytes);
  return async () => {
    if (libc().poll(POLLFD.slice(), 1n, 0) !== 0) return;
    for (let early = 0; early < POLL_ATTEMPTS;) {
      const fromMs = systemClock.nowMs();
      if (await libc().pollInThread(inThread, 1n, WAIT_MS) > 0) return;
      early = systemClock.nowMs() - fromMs > WAIT_MS / 2 ? 0 : early + 1;
    }
  };
}
