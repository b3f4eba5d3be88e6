import type { Database, Row } from "./database.ts";
import type { EdgeNotice } from "./edge_calls.ts";
import { sqlStateOf } from "./errors.ts";
import { numberOf } from "./state_of.ts";

/** An edge, as the cluster knows it. */
export interface EdgeLook {
  /** Which file it is. */
  readonly id: string;
  /** What people call it; `undefined`: another file has taken its name. */
  readonly name: string | undefined;
  /** The highest id of the file that the cluster has. */
  readonly through: number;
  readonly packets: number;
  /** Their bytes. */
  readonly bytes: number;
  /** How long ago its forwarder was heard of, by the database's clock. */
  readonly seenAgoMs: number;
  /** From where its forwarder connected last, as the database sees it. */
  readonly address: string | undefined;
  /** What it said of itself then; `undefined`: nothing yet. */
  readonly notice: EdgeNotice | undefined;
}

/** "There is no such function": the schema is older than edges are. */
const NO_FUNCTION = "42883";

/** The edges of a queue, those with a name first. */
export async function edgesIn(database: Database, queue: string): Promise<EdgeLook[]> {
  try {
    return (await database.ask("SELECT * FROM sendq.edges($1)", [queue])).rows.map(edgeOf);
  } catch (error) {
    if (sqlStateOf(error) === NO_FUNCTION) return [];
    throw error;
  }
}

function edgeOf(row: Row): EdgeLook {
  const { name, address, notice } = row;
  return {
    id: String(row["id"]),
    name: typeof name === "string" ? name : undefined,
    through: numberOf(row["through"]),
    packets: numberOf(row["packets"]),
    bytes: numberOf(row["bytes"]),
    seenAgoMs: numberOf(row["seen_ago_ms"]),
    address: typeof address === "string" ? address : undefined,
    notice: noticeIn(notice),
  };
}

/** Whoever may forward may write anything into it. */
function noticeIn(value: unknown): EdgeNotice | undefined {
  const { queuedPackets, queuedBytes, oldestAgeMs, deadPackets }: Row = { ...Object(value) };
  const notice = { queuedPackets, queuedBytes, oldestAgeMs, deadPackets };
  return isNotice(notice) ? notice : undefined;
}

function isNotice(notice: Readonly<Record<keyof EdgeNotice, unknown>>): notice is EdgeNotice {
  return Object.values(notice).every((count) => typeof count === "number" && count >= 0);
}
