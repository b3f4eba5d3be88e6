/**
 * Asks the cluster how it stands, from a machine of its own: a line of JSON in, a line of
 * JSON out.
 *
 * ```sh
 * deno run -A cluster/watcher_program.ts
 * ```
 *
 * @module
 */

import process from "node:process";
import { createInterface } from "node:readline";
import postgres from "postgres";
import { writeAllSync } from "../src/base/write_all.ts";
import { setUp } from "../src/postgres/setup.ts";
import { DATABASE_PORT, PATRONI_PORT } from "./database_machine.ts";
import { addressOf, type DatabaseHost, DATABASES } from "./network.ts";
import { type Member, primaryOf, type WatcherQuestion } from "./watcher.ts";

const ANSWER_TIMEOUT_MS = 3000;

async function answer(question: WatcherQuestion): Promise<unknown> {
  switch (question.ask) {
    case "members":
      return await members();
    case "setup":
      return await setUp(question.url);
    case "configure":
      return await configure(question.settings);
    case "sql":
      return await rowsOf(question.text, question.host);
    default:
      throw new TypeError(`Unknown question ${JSON.stringify(question satisfies never)}`);
  }
}

async function members(): Promise<readonly Member[]> {
  const [found, mayTakeOver] = await Promise.all([
    Promise.all(DATABASES.map(memberAt)),
    Promise.any(DATABASES.map(synchronousAt)).catch(() => undefined),
  ]);
  const there = found.filter(isThere);
  const primary = primaryOf(there);
  return there.map((member) => ({
    ...member,
    // What was written down under another primary counts no more.
    isSynchronous: mayTakeOver?.leader === primary && mayTakeOver?.standby === member.host,
  }));
}

/** Which standby may take over from which primary, as Patroni has written it down in etcd. */
async function synchronousAt(
  host: DatabaseHost,
): Promise<{ readonly leader: string; readonly standby: string }> {
  const response = await fetch(`http://${addressOf(host)}:2379/v2/keys/service/packets/sync`, {
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
  });
  const { node } = await response.json();
  const { leader, sync_standby: standby } = JSON.parse(node.value);
  return { leader, standby };
}

/** What Patroni says of its server; `undefined`: nothing. */
async function memberAt(host: DatabaseHost): Promise<Member | undefined> {
  try {
    const response = await fetch(`http://${addressOf(host)}:${PATRONI_PORT}/patroni`, {
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    const { role, state, timeline } = await response.json();
    return {
      host,
      isPrimary: role === "master" || role === "primary",
      isRunning: state === "running" || state === "streaming",
      isSynchronous: false,
      timeline: Number(timeline ?? 0),
    };
  } catch {
    return undefined;
  }
}

function isThere(member: Member | undefined): member is Member {
  return member !== undefined;
}

async function configure(settings: Readonly<Record<string, unknown>>): Promise<void> {
  const [host] = DATABASES;
  const { ok, statusText } = await fetch(`http://${addressOf(host)}:${PATRONI_PORT}/config`, {
    method: "PATCH",
    body: JSON.stringify(settings),
    signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
  });
  if (!ok) throw new Error(`Patroni does not take it: ${statusText}`);
}

/** Of one server, or of the primary. */
async function rowsOf(text: string, host: DatabaseHost | undefined): Promise<unknown> {
  const asked = host ?? primaryOf(await members());
  if (asked === undefined) throw new Error("there is no primary");
  const options: Record<string, unknown> = {
    ...{ host: addressOf(asked), port: DATABASE_PORT },
    ...{ user: "postgres", database: "postgres", max: 1, fetch_types: false },
    ...{ connect_timeout: ANSWER_TIMEOUT_MS / 1000, onnotice: () => {} },
    connection: { synchronous_commit: "local", statement_timeout: String(ANSWER_TIMEOUT_MS) },
  };
  const sql = postgres(options as postgres.Options<never>);
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no answer in time")), 2 * ANSWER_TIMEOUT_MS);
  try {
    const rows = sql.unsafe(text).simple();
    rows.catch(() => {});
    return await Promise.race([rows, late]);
  } finally {
    clearTimeout(timer);
    await sql.end({ timeout: 0 }).catch(() => {});
  }
}

if (import.meta.main) {
  // What the client library does with connections that are ended below it.
  addEventListener("unhandledrejection", (event) => event.preventDefault());
  for await (const line of createInterface({ input: process.stdin })) {
    const told = await answer(JSON.parse(line)).then(
      (value) => ({ value }),
      (error) => ({ error: String(error) }),
    );
    writeAllSync(Deno.stdout, new TextEncoder().encode(`${JSON.stringify(told)}\n`));
  }
}
