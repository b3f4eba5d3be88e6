/** Lease and standbys of a queue in a database, in words. */

import type { ClusterStats, ReplicationStats } from "../base/cluster_stats.ts";
import { seconds } from "../base/errors.ts";

/** See `Condition`. */
interface Trouble {
  readonly tone: "bad" | "warning";
  readonly headline: string;
  readonly detail: string;
}

/** What a person has to see to, if anything. */
export function clusterTrouble(cluster: ClusterStats | undefined): Trouble | undefined {
  if (cluster === undefined) return undefined;
  const { lease, replication, weakness } = cluster;
  if (weakness?.refused) {
    return cannotStore(`A commit would mean less than it should: ${weakness.words}.`);
  }
  if (lease !== null && lease.validForMs === 0) {
    const why = lease.failure === null ? "" : ` ${lease.failure.replace(/\.?$/, ".")}`;
    return {
      tone: "bad",
      headline: "May not send",
      detail: `The database has not taken a beat of this sender for ${
        seconds(lease.beatAgeMs)
      }, so that another one may have begun.${why} It goes on by itself once one is taken.`,
    };
  }
  if (replication.state === "blocked") {
    return cannotStore(`${standbyWords(replication)}.`);
  }
  if (weakness !== null) {
    return {
      tone: "warning",
      headline: "Weaker than asked for",
      detail: `An acknowledged packet survives less than it should: ${weakness.words}.`,
    };
  }
  return undefined;
}

function cannotStore(detail: string): Trouble {
  return { tone: "bad", headline: "Nothing can be stored", detail };
}

/** For which standbys commits wait, and whether they are there. */
export function standbyWords({ state, waitsFor, standbys }: ReplicationStats): string {
  if (state === "alone") {
    return waitsFor === ""
      ? "No commit waits for a standby (synchronous_standby_names is empty)"
      : "No commit waits for a standby (synchronous_commit is local or off)";
  }
  const waits = `Each commit waits for ${waitsFor}`;
  const there = standbys.filter(({ sync }) => sync === "sync" || sync === "quorum").length;
  if (state === "blocked") {
    const some = there === 1 ? "only 1 is" : `only ${there} are`;
    return `${waits}, and ${there === 0 ? "none is" : some} there`;
  }
  return state === "unknown" ? `${waits}; how many are there is not known` : waits;
}
