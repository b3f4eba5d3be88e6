/** The state of all routes of a process in one line, as the service manager shows it. */

import { type Condition, inOneLine } from "../../sender/condition.ts";
import { formatCount, formatPackets, formatThings } from "../terminal/figures.ts";

/** How many routes are told of one by one; those behind are counted. */
const MAX_TOLD = 3;

/** What is worse is told first. */
const ORDER: readonly Condition["tone"][] = ["bad", "warning", "busy", "good", "idle"];

export interface RouteStatus {
  readonly name: string;
  readonly condition: Condition;
  /** Undefined: no sender has its queue open here. */
  readonly queuedPackets: number | undefined;
}

/**
 * All routes in one line: the worst first, each with its reason, then those that wait, and then
 * how many are well.
 *
 * @param routes In the order of the file.
 * @returns Such as `plc: Not delivering: connection refused. (12 packets queued) · 2 others:
 *   Delivering 1, Idle 1`.
 */
export function routesInOneLine(routes: readonly RouteStatus[]): string {
  const byTone = routes.toSorted((a, b) =>
    ORDER.indexOf(a.condition.tone) - ORDER.indexOf(b.condition.tone)
  );
  const told = byTone.filter(isToTell).slice(0, MAX_TOLD);
  const rest = byTone.filter((route) => !told.includes(route));
  const parts = told.map(inWords);
  if (rest.length > 0) {
    const count = formatThings(rest.length, told.length === 0 ? "route" : "other");
    parts.push(`${count}: ${counted(rest)}`);
  }
  return parts.join(" · ");
}

/** What a person has to see to, and for whom a route waits that does not send. */
function isToTell({ condition: { tone }, queuedPackets }: RouteStatus): boolean {
  return tone === "bad" || tone === "warning" || queuedPackets === undefined;
}

function inWords({ name, condition, queuedPackets }: RouteStatus): string {
  const detail = firstSentence(condition.detail);
  return queuedPackets === undefined
    ? `${name}: ${condition.headline}: ${detail}`
    : `${name}: ${inOneLine({ ...condition, detail })} (${formatPackets(queuedPackets)} queued)`;
}

function firstSentence(text: string): string {
  return text.split(/(?<=\.) (?=[A-Z])/, 1)[0] ?? text;
}

function counted(routes: readonly RouteStatus[]): string {
  const counts = new Map<string, number>();
  for (const { condition: { headline } } of routes) {
    counts.set(headline, (counts.get(headline) ?? 0) + 1);
  }
  return [...counts].map(([headline, count]) => `${headline} ${formatCount(count)}`).join(", ");
}
