/**
 * SIGHUP: the route file is read anew. What can change does; what cannot stays as it was,
 * and is named.
 */

import {
  HEARTBEAT_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  SESSION_OPTIONS,
} from "../../base/option_table.ts";
import { missingFlags } from "../terminal/flags.ts";
import { withoutPasswords } from "../terminal/figures.ts";
import { logLevelOf } from "../arguments/options.ts";
import { HEARTBEAT, SESSION } from "../arguments/session.ts";
import type { Route } from "../session/route.ts";
import type { LogConsole } from "../terminal/output.ts";
import type { PlannedRoute } from "./plan.ts";
import type { Placed, Problem, ReadRoute, RouteFile, Values } from "./route_file.ts";

/** Options that change at once, or with the next connection. */
const CAN_CHANGE: ReadonlySet<string> = new Set([
  ...Object.keys(PACE_OPTIONS),
  ...["holdMs", "responseTimeoutMs", "maxInFlightBytes", "onPeerFin"],
  ...["connectTimeoutMs", "slowConnectTimeoutMs", "lookUpTimeoutMs"],
  ...["sessionOpen", "heartbeat", "heartbeatExpect", "goodbye"],
  ...Object.keys(SESSION_OPTIONS).filter((name) => !name.startsWith("refused"))
    .map((name) => SESSION + name),
  ...Object.keys(HEARTBEAT_OPTIONS).map((name) => HEARTBEAT + name),
  "logLevel",
]);
/** Options that can only grow: what is on its way in was cut to the old bound. */
const CAN_GROW: ReadonlyMap<string, number> = new Map([
  ["maxPackets", QUEUE_OPTIONS.maxPackets.default],
  ["maxBytes", QUEUE_OPTIONS.maxBytes.default],
]);

export interface Reload {
  readonly before: readonly PlannedRoute[];
  /** Read anew, without a mistake. */
  readonly file: RouteFile;
  /** Those that have not failed, also ones that wait for the right to send. */
  readonly running: readonly Route[];
  readonly plan: (route: ReadRoute, problems: Problem[]) => PlannedRoute | undefined;
  readonly log: LogConsole;
}

/** Why nothing was changed: Deno's flags for files that may not be read here. */
interface Refusal {
  readonly missing: readonly string[];
}

/**
 * Gives what has changed to the senders that run.
 *
 * @returns The routes as they run from now on; or why nothing was changed.
 */
export function reloadRoutes(
  { before, file, running: routes, plan, log }: Reload,
): readonly PlannedRoute[] | Refusal {
  const pairs = before.map((old) => {
    const { name } = old.plan;
    const read = file.routes.find((route) => route.name === name);
    const running = routes.find((route) => route.plan.name === name);
    if (read === undefined || running === undefined) return { old, running, next: undefined };
    const changed = changesOf(old.values, read.values);
    const staying = changed.filter((change) => !canChange(change));
    const changing = changed.filter(canChange);
    const values = withChanges(old.values, changing);
    // The file is sound: this is what the new has against the old that stays.
    const problems: Problem[] = [];
    const next = plan({ ...read, values }, problems);
    return { old, running, staying, changing, next, problems };
  });
  // Before the first route has changed: the secrets of a later one are read only then.
  const missing = missingFlags({
    files: pairs.flatMap(({ next }) => [...next?.needs.files ?? []]),
  });
  if (missing.length > 0) return { missing };
  for (const { name } of file.routes) {
    if (!before.some((known) => known.plan.name === name)) {
      log.warn(`the route ${name ?? "without a name"} is new in the file: it needs a restart`);
    }
  }
  return pairs.map(({ old, running, next, staying = [], changing = [], problems }) => {
    if (running === undefined) {
      log.warn(`the route ${old.plan.name ?? "without a name"} has ended: it needs a restart`);
      return old;
    }
    if (problems !== undefined && problems.length > 0) {
      const words = problems.map((problem) => withoutPasswords(problem.words)).join("; ");
      running.log.warn(
        `all of it needs a restart, and is as it was: ${namesOf([...staying, ...changing])}. ` +
          `Beside what stays until then: ${words}`,
      );
      return old;
    }
    if (next === undefined) {
      running.log.warn("it is no longer in the file, and goes on until a restart");
      return old;
    }
    running.reconfigure(next.plan);
    log.level = logLevelOf(next.plan.options);
    if (staying.length > 0) {
      running.log.warn(`needs a restart, and is as it was: ${namesOf(staying)}`);
    }
    running.log.info(
      changing.length === 0
        ? "read anew: no option has changed"
        : `read anew: changed ${namesOf(changing)}`,
    );
    return next;
  });
}

interface Change {
  readonly to: string;
  readonly before: Placed | undefined;
  readonly after: Placed | undefined;
}

function changesOf(before: Values, after: Values): Change[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((to) => ({ to, before: before.get(to), after: after.get(to) }))
    .filter((change) => written(change.before) !== written(change.after));
}

/** A value as text that differs where it differs. */
function written(placed: Placed | undefined): string | undefined {
  return placed && JSON.stringify(
    placed.value,
    (_, value) => value instanceof RegExp ? { regexp: value.source } : value,
  );
}

function canChange({ to, before, after }: Change): boolean {
  const fallback = CAN_GROW.get(to);
  if (fallback === undefined) return CAN_CHANGE.has(to);
  return Number(after?.value ?? fallback) > Number(before?.value ?? fallback);
}

function withChanges(values: Values, changes: readonly Change[]): Values {
  const merged = new Map(values);
  for (const { to, after } of changes) {
    if (after === undefined) merged.delete(to);
    else merged.set(to, after);
  }
  return merged;
}

function namesOf(changes: readonly Change[]): string {
  return [...new Set(changes.map(({ before, after }) => (after ?? before)?.path ?? ""))].join(", ");
}
