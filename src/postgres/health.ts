/** What a database says of a queue's lease and of its own standbys, in one question. */

import type { ReplicationStats, StandbyStats } from "../base/cluster_stats.ts";
import { numberOf } from "./state_of.ts";

/** The question, and its arguments: the queue's name and the durability that is asked for. */
export const HEALTH = "SELECT sendq.health($1, $2) AS health";

export interface Health {
  readonly lease: {
    /** Who has it; `undefined`: nobody. A holder that has died is one until it is replaced. */
    readonly holder: string | undefined;
    /** How many tenures there were. */
    readonly epoch: number;
    /** Grows as long as the holder lives. */
    readonly beat: number;
    /** For how long the holder takes a beat for good. */
    readonly ttlMs: number;
    /** How old the last beat is by the database's clock. */
    readonly beatAgeMs: number;
  };
  readonly replication: ReplicationStats;
  /** Why a commit means less than it should; `null`: it does not. */
  readonly weakness: string | null;
}

/** Reads an answer to {@linkcode HEALTH}. */
export function healthOf(value: unknown): Health {
  const fields: Readonly<Record<string, unknown>> = { ...Object(value) };
  const { holder, weakness, standbys } = fields;
  return {
    lease: {
      holder: typeof holder === "string" ? holder : undefined,
      epoch: numberOf(fields["epoch"]),
      beat: numberOf(fields["beat"]),
      ttlMs: numberOf(fields["ttlMs"]),
      beatAgeMs: numberOf(fields["beatAgeMs"]),
    },
    replication: replicationOf({
      waitsFor: String(fields["waitsFor"]).trim(),
      commit: String(fields["commit"]),
      maySee: fields["maySee"] === true,
      standbys: Array.isArray(standbys) ? standbys.map(standbyOf) : [],
    }),
    weakness: typeof weakness === "string" ? weakness : null,
  };
}

interface Facts {
  readonly waitsFor: string;
  readonly commit: string;
  readonly maySee: boolean;
  readonly standbys: readonly StandbyStats[];
}

function replicationOf({ waitsFor, commit, maySee, standbys }: Facts): ReplicationStats {
  if (waitsFor === "" || commit === "local" || commit === "off") {
    return { state: "alone", waitsFor, standbys };
  }
  if (!maySee) return { state: "unknown", waitsFor, standbys: [] };
  // "2 (a, b)", "FIRST 2 (a, b)", "ANY 2 (a, b)"; a list alone is one of them.
  const [, count = "1"] = /^(?:(?:first|any)\s+)?([0-9]+)\s*\(/i.exec(waitsFor) ?? [];
  const there = standbys.filter(({ sync }) => sync === "sync" || sync === "quorum").length;
  return { state: there >= Number(count) ? "replicated" : "blocked", waitsFor, standbys };
}

function standbyOf(value: unknown): StandbyStats {
  const fields: Readonly<Record<string, unknown>> = { ...Object(value) };
  const { lagMs } = fields;
  return {
    name: String(fields["name"]),
    state: String(fields["state"]),
    sync: String(fields["sync"]),
    lagBytes: numberOf(fields["lagBytes"]),
    lagMs: typeof lagMs === "number" ? lagMs : null,
  };
}
