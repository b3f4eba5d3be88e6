// deno-lint-ignore-file no-console
/**
 * Waiting for the disk in the event loop, in threads, and where it is chosen: packets a
 * second, and how late a 1-ms timer fires, on this disk and on a slow one.
 *
 * @module
 */

import { type Spawn, spawnHere } from "../lab/child.ts";
import type { FloorReport } from "./floor.ts";
import { runProgram } from "./programs.ts";
import { floor, load, type Reading, type Round } from "./readings.ts";

const KIB = 1024;
const PLACES = ["loop", "threads", "auto"] as const;
/** A spinning disk, or a network volume at its best. */
const SLOW_SYNC_MS = 2;

/** Stops the process at its syncs and at no other call, and lets each take longer. */
const STRACE = [
  ...["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"],
  ...["-e", `inject=fsync,fdatasync:delay_exit=${SLOW_SYNC_MS * 1000}`],
];

const CASES: readonly { readonly packetBytes: number; readonly enqueuers: number }[] = [
  { packetBytes: 100, enqueuers: 1 },
  { packetBytes: 100, enqueuers: 100 },
  { packetBytes: 100, enqueuers: 10_000 },
  { packetBytes: 16 * KIB, enqueuers: 100 },
  { packetBytes: 256 * KIB, enqueuers: 100 },
];

/** All in turn, so that a busy machine slows both. */
export async function* threads({ quick }: Round): AsyncGenerator<Reading> {
  for (const { packetBytes, enqueuers } of CASES) {
    if (quick && (packetBytes !== 100 || enqueuers !== 100)) continue;
    const size = packetBytes < KIB ? `${packetBytes} B` : `${packetBytes / KIB} KiB`;
    for (const syncIn of PLACES) {
      const ours = await load({ packetBytes, enqueuers, queueOptions: { syncIn } });
      const batch = Math.max(1, Math.round(ours.packetsPerCommit));
      const rows = await floor({ what: "rows", batch, packetBytes, measureMs: 1500 });
      const crowd = `${enqueuers} enqueuer${enqueuers === 1 ? "" : "s"}`;
      const name = `${size}, ${crowd}, syncIn ${syncIn}`;
      yield {
        name,
        unit: "packets/s",
        value: ours.packetsPerSecond,
        against: { name: "raw SQLite rows", value: rows },
        ...(packetBytes === 100 ? {} : { packetBytes }),
      };
      yield { name: `${name}: 1-ms timer late p99`, unit: "ms", value: ours.timerLateMs.p99 };
    }
  }
  yield* slowDisk();
}

async function* slowDisk(): AsyncGenerator<Reading> {
  const missing = await delayMissing();
  if (missing !== undefined) {
    console.error(`threads, slow disk: skipped, ${missing}`);
    return;
  }
  const slowly: Spawn = (command, args, options) =>
    spawnHere("strace", [...STRACE, command, ...args], options);
  const disk = `${SLOW_SYNC_MS}-ms syncs`;
  const { value: syncMs } = await runProgram<FloorReport>("floor.ts", { what: "sync" }, {
    spawn: slowly,
  });
  yield { name: `${disk}: fdatasync of 4 KiB`, unit: "ms", value: syncMs };
  for (const syncIn of PLACES) {
    const options = { packetBytes: 100, enqueuers: 100, queueOptions: { syncIn } };
    const ours = await load(options, { spawn: slowly });
    const name = `${disk}, 100 B, 100 enqueuers, syncIn ${syncIn}`;
    yield {
      name,
      unit: "packets/s",
      value: ours.packetsPerSecond,
      against: { name: "100 packets a sync", value: 100_000 / syncMs },
    };
    yield { name: `${name}: 1-ms timer late p99`, unit: "ms", value: ours.timerLateMs.p99 };
  }
}

/** Why syncs cannot be made slow here, if they cannot. */
async function delayMissing(): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command("strace", {
      args: [...STRACE, "true"],
      ...{ stdin: "null", stdout: "null", stderr: "piped" },
    }).output();
    return success ? undefined : `strace: ${new TextDecoder().decode(stderr).trim()}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "strace is not installed";
    throw error;
  }
}
