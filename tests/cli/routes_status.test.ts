import assert from "node:assert/strict";
import { routesInOneLine, type RouteStatus } from "../../src/cli/session/routes_status.ts";

const CONDITIONS = {
  good: ["Delivering", "The server acknowledges what it is sent."],
  idle: ["Idle", "Nothing to send, no connection needed."],
  busy: ["Connecting", "On the way to the server."],
  warning: ["Unsteady", "It broke again and again."],
  bad: ["Not delivering", "Connection refused (ECONNREFUSED). Trying to connect again."],
} as const;

function route(name: string, tone: keyof typeof CONDITIONS, queuedPackets = 0): RouteStatus {
  const [headline, detail] = CONDITIONS[tone];
  return { name, condition: { tone, headline, detail }, queuedPackets };
}

Deno.test("several routes in one line: what is worst comes first, with its reason", () => {
  assert.equal(
    routesInOneLine([
      route("a", "idle"),
      route("b", "warning", 1),
      route("c", "good"),
      route("d", "bad", 1200),
      route("e", "busy"),
      route("f", "good"),
    ]),
    "d: Not delivering: Connection refused (ECONNREFUSED). (1,200 packets queued) · " +
      "b: Unsteady: It broke again and again. (1 packet queued) · " +
      "4 others: Connecting 1, Delivering 2, Idle 1",
  );
});

Deno.test("several routes in one line: all are well, or one has not started", () => {
  assert.equal(
    routesInOneLine([route("a", "good"), route("b", "idle")]),
    [
      "2 routes: Delivering 1, Idle 1",
    ].join(),
  );
  const condition = { tone: "bad", headline: "Not started", detail: "it is locked" } as const;
  assert.equal(
    routesInOneLine([{ name: "a", condition, queuedPackets: undefined }, route("b", "idle")]),
    "a: Not started: it is locked · 1 other: Idle 1",
  );
});

Deno.test("several routes in one line: one that stands by says for whom, behind what is worse", () => {
  const standingBy = {
    name: "a",
    condition: { tone: "idle", headline: "Standing by", detail: "process 7 sends from this queue" },
    queuedPackets: undefined,
  } as const;
  assert.equal(
    routesInOneLine([standingBy, route("b", "good"), route("c", "bad", 2), route("d", "idle")]),
    "c: Not delivering: Connection refused (ECONNREFUSED). (2 packets queued) · " +
      "a: Standing by: process 7 sends from this queue · 2 others: Delivering 1, Idle 1",
  );
});

Deno.test("several routes in one line: it stays short, and still counts all", () => {
  const routes = Array.from({ length: 100 }, (_, index) => route(`r${index}`, "bad", 7));
  const line = routesInOneLine([...routes, route("last", "good")]);
  assert.match(line, /^r0: .* · r1: .* · r2: [^·]* · 98 others: Not delivering 97, Delivering 1$/);
});
