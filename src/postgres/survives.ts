import type { ReplicationStats } from "../base/cluster_stats.ts";
import type { PostgresDurability } from "./address.ts";

const SURVIVED: Readonly<Record<PostgresDurability, string>> = {
  "machine-loss":
    "the loss of the primary with its disk, and a power cut of all machines at a time",
  "power-loss":
    "a power cut of the primary, but not the loss of its disk; a failover may cost some",
  "process-crash": "the end of this process, and beyond it what the database's settings make of it",
};

/** What an acknowledged packet survives, as the end of a sentence. */
export function survivesWords(
  durability: PostgresDurability,
  { waitsFor }: Pick<ReplicationStats, "waitsFor">,
  weakness: string | null,
): string {
  if (weakness !== null) {
    return `less than ${durability} promises, because of a setting of the database: ${weakness}`;
  }
  const how = durability === "machine-loss" ? ` (each commit waits for ${waitsFor})` : "";
  return `${SURVIVED[durability]}${how}`;
}
