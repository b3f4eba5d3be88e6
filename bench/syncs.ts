/**
 * How often a load makes the disk sync, counted by the kernel under strace(1).
 *
 * @module
 */

import { type Spawn, spawnHere } from "../lab/child.ts";
import type { LoadOptions } from "./load.ts";
import { load } from "./readings.ts";

/** Stops the process at the calls that are counted, and at no other. */
const STRACE = ["-f", "-c", "--seccomp-bpf", "-e", "trace=fsync,fdatasync"];

/** Why syncs cannot be counted here, if they cannot. */
export async function syncsMissing(): Promise<string | undefined> {
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

/**
 * Syncs and commits for each packet of a load. Its rate means nothing: strace
 * slows it down.
 */
export async function countSyncs(
  options: Omit<LoadOptions, "port" | "warmUpMs">,
): Promise<{ readonly syncsPerPacket: number; readonly commitsPerPacket: number }> {
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  const counts = `${directory}/counts`;
  const traced: Spawn = (command, args, spawnOptions) =>
    spawnHere("strace", [...STRACE, "-o", counts, command, ...args], spawnOptions);
  try {
    const report = await load({ measureMs: 1000, ...options, warmUpMs: 1200 }, { spawn: traced });
    let syncs = 0;
    for (const line of Deno.readTextFileSync(counts).split("\n")) {
      // % time, seconds, usecs/call, calls, perhaps errors, syscall
      const [, , , calls, ...rest] = line.trim().split(/\s+/);
      if (/^(fsync|fdatasync)$/.test(rest.at(-1) ?? "")) syncs += Number(calls);
    }
    if (syncs === 0) throw new Error("strace counted no sync at all");
    return {
      syncsPerPacket: syncs / report.enqueued,
      commitsPerPacket: report.commitsPerPacket,
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
