/**
 * A sender's status over HTTP: figures for Prometheus, health for whoever
 * restarts it, JSON and a live stream for programs, and one page for people.
 *
 * ```ts ignore
 * import { Sender } from "@sendq/sendq";
 * import { serveStatus } from "@sendq/sendq/http";
 *
 * await using sender = await Sender.open("outbox.db", "tcp://legacy:4000");
 * await using status = serveStatus(sender, { port: 9465 });
 * console.log(`status page: ${status.url}`);
 * ```
 *
 * Needs `--allow-net` for the address that it listens on, beside what the sender needs.
 * Everything that the page needs is served from here; it asks nobody else.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { OptionError } from "../base/errors.ts";
import type { Clock, StoredPacket } from "../base/ports.ts";
import { within } from "../base/waits.ts";
import type { Condition } from "../sender/condition.ts";
import { Sender } from "../sender/sender.ts";
import type { Access, Refusal } from "./access.ts";
import { readSender } from "./figures.ts";
import type { HttpAnswer, HttpRequest } from "./listener.ts";
import { type Health, Monitor, type OldestPacket, type StatusReport } from "./monitor.ts";
import page from "./page.json" with { type: "json" };
import { type LabelledReading, PROMETHEUS_CONTENT_TYPE, prometheusText } from "./prometheus.ts";
import { type RouteSummary, summaryOf, withoutSender } from "./routes.ts";
import {
  methodRefusal,
  refuse,
  respond,
  serve,
  type Service,
  statusOptionsOf,
  text,
} from "./serve.ts";
import type {
  RoutesStatusServer,
  ShownSender,
  StatusServer,
  StatusServerOptions,
} from "./status_server.ts";

export type { Condition } from "../sender/condition.ts";
export type { Outage } from "../delivery/status.ts";
export {
  type ForwarderHealth,
  type ForwarderReport,
  serveForwarderStatus,
} from "./forwarder_http.ts";
export type {
  ForwarderState,
  ForwarderStats,
  ReadableForwarder,
} from "../postgres/forwarder_status.ts";
export type {
  RoutesStatusServer,
  ShownSender,
  StatusServer,
  StatusServerOptions,
} from "./status_server.ts";
export type { Health, OldestPacket, Sample, StatusEvent, StatusReport } from "./monitor.ts";
export type { RouteSummary } from "./routes.ts";

/** Streams that may be open at once, of all routes together; further ones are refused. */
const MAX_STREAMS = 32;
/** A stream whose reader is this many messages behind is ended; browsers connect again. */
const MAX_BEHIND_MESSAGES = 64;

/**
 * Serves a sender's status:
 *
 * | path       | what                                                               |
 * | ---------- | ------------------------------------------------------------------ |
 * | `/`        | a page for people, live                                            |
 * | `/metrics` | figures in Prometheus' text format                                 |
 * | `/healthz` | 200, or 503 with the reason: closed, or undeliverable for too long |
 * | `/status`  | {@linkcode StatusReport} as JSON                                   |
 * | `/events`  | server-sent events: `hello`, then `event` and `sample`             |
 *
 * HTTP 1.1. At most 64 readers at a time; one that takes
 * more than 15 seconds for a request is cut off, and delivery does not notice.
 *
 * Needs `--allow-net` for the address that it listens on. Payloads are never
 * shown unless asked for. Dispose of it with the sender.
 *
 * @param sender Whose status.
 * @param options Where, and for whom.
 * @throws {RangeError} An option is out of range, or the address is not a
 *   loopback one and there is no token.
 * @throws {Deno.errors.AddrInUse} Somebody listens there already.
 * @throws {ListenError} It cannot listen there: this host does not have the address, for example.
 * @throws {Deno.errors.NotCapable} The permission is missing.
 *
 * @example
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { serveStatus } from "@sendq/sendq/http";
 * import assert from "node:assert/strict";
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * await using sender = await Sender.open(queue, "tcp://127.0.0.1:4000");
 * await using status = serveStatus(sender, { port: 0 });
 * const answer = await fetch(new URL("healthz", status.url));
 * assert.equal(answer.status, 200);
 * await answer.body?.cancel();
 * ```
 */
export function serveStatus(sender: Sender, options?: StatusServerOptions): StatusServer;
/**
 * The same for several senders in one process: `/` is a list of them, to be sorted and filtered,
 * the worst first; `/routes` is the same as JSON: `atMs`, and in `routes` a
 * {@linkcode RouteSummary} of each. `/r/NAME/`
 * has the page of each, and below it all the other paths, too. `/metrics` then has a label
 * `route`, `/status` an object of reports, and `/healthz` says 503 when any of them is
 * unhealthy, and which.
 *
 * @param senders Whose status, by their names; see {@linkcode ShownSender} for those that are
 *   not open.
 * @param options Where, and for whom.
 */
export function serveStatus(
  senders: Readonly<Record<string, ShownSender>>,
  options?: StatusServerOptions,
): RoutesStatusServer;
export function serveStatus(
  senders: Sender | Readonly<Record<string, ShownSender>>,
  options: StatusServerOptions = {},
): StatusServer | RoutesStatusServer {
  const { showPayloads = false, clock = systemClock } = options;
  const { undeliverableLimitMs } = statusOptionsOf(options);
  const streams = { open: 0 };
  const viewOf = (sender: Sender, route?: string) =>
    new SenderView(sender, { clock, undeliverableLimitMs, showPayloads, route, streams });
  if (senders instanceof Sender) {
    return serve(options, (access) => new StatusService(access, viewOf(senders))).server;
  }
  Object.keys(senders).forEach(assertHasPage); // Before anything listens, or watches a sender.
  const { server, service } = serve(
    options,
    (access) => new StatusService(access, new RoutesView(senders, viewOf, clock)),
  );
  return { ...server, show: (name, sender) => service.view.show(name, sender) };
}

const ASSETS: ReadonlyMap<string, readonly [type: string, body: string]> = new Map([
  ["/page.css", ["text/css; charset=utf-8", page["page.css"]]],
  ["/page.js", ["text/javascript; charset=utf-8", page["page.js"]]],
  ["/routes.js", ["text/javascript; charset=utf-8", page["routes.js"]]],
  ["/uplot.css", ["text/css; charset=utf-8", page["uplot.css"]]],
  ["/uplot.js", ["text/javascript; charset=utf-8", page["uplot.js"]]],
]);

/** What is served beyond the door. */
interface View {
  /** Answers; undefined: there is nothing there. */
  answer(pathname: string, method: string): Promise<HttpAnswer | undefined>;
  /** Ends what is under way. */
  stop(): void;
}

interface RouteView extends View {
  /** Its figures; none where there is no sender. */
  readings(labels: Readonly<Record<string, string>>): readonly LabelledReading[];
  health(): Pick<Health, "ok" | "reason">;
  summary(route: string): RouteSummary;
  /** As `/status` has it. */
  report(): Promise<unknown>;
}

class StatusService<V extends View> implements Service {
  readonly view: V;
  readonly #access: Access;

  constructor(access: Access, view: V) {
    this.view = view;
    this.#access = access;
  }

  stop(): void {
    this.view.stop();
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    const { pathname, method } = request;
    if (pathname === "/login" && method === "POST") return this.#logIn(request);
    const notRead = methodRefusal(request);
    if (notRead !== undefined) return notRead;
    const refusal = this.#access.refuse(request);
    // The login form needs its style.
    if (refusal !== undefined && (refusal.status !== 401 || pathname !== "/page.css")) {
      return pathname === "/" ? formOr(refusal) : refuse(refusal);
    }
    const asset = ASSETS.get(pathname);
    if (asset !== undefined) return respond(200, ...asset);
    return await this.view.answer(pathname, method) ?? text(404, "not found");
  }

  #logIn(request: HttpRequest): HttpAnswer {
    const outcome = this.#access.logIn(request);
    if ("cookie" in outcome) {
      return text(303, "", { "location": "./", "set-cookie": outcome.cookie });
    }
    return formOr(outcome);
  }
}

/** The form to log in with, where that would help. */
function formOr(refusal: Refusal): HttpAnswer {
  return refusal.status === 401 ? html(401, page["login.html"]) : refuse(refusal);
}

class SenderView implements RouteView {
  readonly #sender: Sender;
  readonly #clock: Clock;
  readonly #head: OldestHead | undefined;
  readonly #route: string | undefined;
  readonly #monitor: Monitor;
  readonly #streams: { open: number };

  constructor(
    sender: Sender,
    { clock, undeliverableLimitMs, showPayloads, route, streams }: {
      readonly clock: Clock;
      readonly undeliverableLimitMs: number;
      readonly showPayloads: boolean;
      /** Its name, where it is one of several. */
      readonly route: string | undefined;
      /** Those of all routes: whoever asks for something else needs a connection, too. */
      readonly streams: { open: number };
    },
  ) {
    this.#sender = sender;
    this.#clock = clock;
    this.#head = showPayloads
      ? new OldestHead((afterId) => sender.queue.read(afterId, 1), clock)
      : undefined;
    this.#route = route;
    this.#streams = streams;
    this.#monitor = new Monitor(sender, clock, undeliverableLimitMs);
  }

  stop(): void {
    this.#monitor.stop();
  }

  readings(labels: Readonly<Record<string, string>> = {}): readonly LabelledReading[] {
    const reading = readSender(this.#sender, this.#clock.wallMs());
    return [{ reading, labels: { ...labels, remote: this.#sender.remote } }];
  }

  health(): Health {
    return this.#monitor.health();
  }

  summary(route: string): RouteSummary {
    return summaryOf(route, this.#sender, this.#clock.wallMs());
  }

  async answer(pathname: string, method: string): Promise<HttpAnswer | undefined> {
    switch (pathname) {
      case "/":
        return html(200, page["page.html"]);
      case "/metrics":
        return respond(200, PROMETHEUS_CONTENT_TYPE, prometheusText(this.readings()));
      case "/healthz": {
        const { ok, reason } = this.health();
        return text(ok ? 200 : 503, reason);
      }
      case "/status":
        return respond(200, "application/json", JSON.stringify(await this.report(), null, 2));
      case "/events":
        return method === "HEAD" ? text(200, "") : await this.#events();
      default: {
        const asset = ASSETS.get(pathname);
        return asset === undefined ? undefined : respond(200, ...asset);
      }
    }
  }

  async #events(): Promise<HttpAnswer> {
    const report = await this.report();
    if (this.#streams.open >= MAX_STREAMS) return text(503, "too many streams are open already");
    const hello = {
      report,
      events: this.#monitor.events,
      samples: this.#monitor.samples,
      route: this.#route,
    };
    let unsubscribe = () => {};
    let ended = false;
    const end = () => {
      if (!ended) this.#streams.open--;
      ended = true;
      unsubscribe();
    };
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#streams.open++;
        const send = (name: string, data: unknown) =>
          controller.enqueue(
            new TextEncoder().encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`),
          );
        send("hello", hello);
        unsubscribe = this.#monitor.subscribe(async (message) => {
          const behind = 1 - (controller.desiredSize ?? 0);
          if (message.kind === "end" || behind > MAX_BEHIND_MESSAGES) {
            end();
            controller.close();
            return;
          }
          const report = await this.report();
          if (ended) return;
          send(
            message.kind,
            message.kind === "event" ? { event: message.event, report } : { report },
          );
        });
      },
      cancel: end,
    });
    return respond(200, "text/event-stream", body);
  }

  async report(): Promise<StatusReport> {
    const report = this.#monitor.report();
    if (this.#head === undefined || report.oldestPacket === null) return report;
    return { ...report, oldestPacket: await this.#head.shownWith(report.oldestPacket) };
  }
}

/** What there is to say of one that has no sender. */
class WaitingView implements RouteView {
  readonly #shown: Error | Condition;

  constructor(shown: Error | Condition) {
    this.#shown = shown;
  }

  stop(): void {}

  readings(): readonly LabelledReading[] {
    return [];
  }

  health(): Pick<Health, "ok" | "reason"> {
    if (this.#shown instanceof Error) return { ok: false, reason: this.#shown.message };
    const { tone, headline, detail } = this.#shown;
    return { ok: tone !== "bad", reason: `${headline}: ${detail}` };
  }

  summary(route: string): RouteSummary {
    return withoutSender(route, this.#shown);
  }

  report(): Promise<unknown> {
    return Promise.resolve(
      this.#shown instanceof Error ? { error: this.#shown.message } : { condition: this.#shown },
    );
  }

  answer(pathname: string): Promise<HttpAnswer> {
    const { ok, reason } = this.health();
    // What it will have once there is a sender is not there yet.
    const isSaid = pathname === "/" || pathname === "/healthz";
    return Promise.resolve(text(ok && isSaid ? 200 : 503, reason));
  }
}

class RoutesView implements View {
  readonly #routes = new Map<string, { readonly shown: ShownSender; readonly view: RouteView }>();
  readonly #viewOf: (sender: Sender, route: string) => SenderView;
  readonly #clock: Clock;
  #isStopped = false;

  constructor(
    senders: Readonly<Record<string, ShownSender>>,
    viewOf: (sender: Sender, route: string) => SenderView,
    clock: Clock,
  ) {
    this.#viewOf = viewOf;
    this.#clock = clock;
    for (const [name, sender] of Object.entries(senders)) this.show(name, sender);
  }

  show(name: string, shown: ShownSender): void {
    assertHasPage(name);
    const before = this.#routes.get(name);
    if (this.#isStopped || before?.shown === shown) return;
    before?.view.stop();
    const view = shown instanceof Sender ? this.#viewOf(shown, name) : new WaitingView(shown);
    this.#routes.set(name, { shown, view });
  }

  stop(): void {
    this.#isStopped = true;
    for (const { view } of this.#routes.values()) view.stop();
  }

  async answer(pathname: string, method: string): Promise<HttpAnswer | undefined> {
    const [, name = "", rest = ""] = /^\/r\/([^/]+)(\/.*)?$/.exec(pathname) ?? [];
    const view = this.#routes.get(decoded(name))?.view;
    if (view !== undefined) {
      return rest === ""
        // Else a name with a colon would be another scheme.
        ? text(308, "", { location: `./${name}/` })
        : await view.answer(rest, method);
    }
    const views = [...this.#routes].map(([route, { view }]) => [route, view] as const);
    switch (pathname) {
      case "/":
        return html(200, page["routes.html"]);
      case "/routes": {
        const routes = views.map(([route, view]) => view.summary(route));
        const body = { atMs: this.#clock.wallMs(), routes };
        return respond(200, "application/json", JSON.stringify(body));
      }
      case "/metrics": {
        const readings = views.flatMap(([route, view]) => view.readings({ route }));
        return respond(200, PROMETHEUS_CONTENT_TYPE, prometheusText(readings));
      }
      case "/healthz": {
        const healths = views.map(([route, view]) => {
          const { ok, reason } = view.health();
          return { ok, words: `${route}: ${reason}` };
        });
        const ok = healths.every((health) => health.ok);
        // The unhealthy ones first: a probe may show no more than a line.
        const lines = healths.toSorted((a, b) => Number(a.ok) - Number(b.ok));
        return text(ok ? 200 : 503, lines.map(({ words }) => words).join("\n"));
      }
      case "/status": {
        const reports = await Promise.all(
          views.map(async ([route, view]) => [route, await view.report()] as const),
        );
        const body = { routes: Object.fromEntries(reports) };
        return respond(200, "application/json", JSON.stringify(body, null, 2));
      }
      default:
        return undefined;
    }
  }
}

/** A browser takes dots out of a path, and throws at half a character. */
function assertHasPage(name: string): void {
  if (!/^\.{0,2}$/.test(name) && name.isWellFormed()) return;
  const rule = 'must not be empty, "." or "..", and have whole characters';
  throw new OptionError("name", name, `${rule}: a route's page is at /r/NAME/`);
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return ""; // No name has a stray "%".
  }
}

function html(status: number, page: string): HttpAnswer {
  return respond(status, "text/html; charset=utf-8", page);
}

const MAX_HEAD_BYTES = 1024;
/** Whoever looks is told without it where it takes longer. */
const LIMIT_MS = 1000;

/**
 * The first bytes of the packet that is next, for the page. It is read once for all who look, and
 * one reading is under way at most: a database may not answer for a while.
 */
export class OldestHead {
  readonly #read: (afterId: number) => Promise<readonly StoredPacket[]>;
  readonly #clock: Clock;
  /** What was read, and for which id. */
  #known: { readonly forId: number; readonly shown: Partial<OldestPacket> } | undefined;
  #reading: Promise<void> | undefined;

  /**
   * Makes it; nothing is read yet.
   *
   * @param read Reads the packets that follow an id, for anybody. Not `readBatches`, which is the
   *   sender's.
   * @param clock Time.
   */
  constructor(read: (afterId: number) => Promise<readonly StoredPacket[]>, clock: Clock) {
    this.#read = read;
    this.#clock = clock;
  }

  /** The packet with its first bytes, where those are known within a second. */
  async shownWith(oldest: OldestPacket): Promise<OldestPacket> {
    if (this.#known?.forId !== oldest.id) {
      this.#reading ??= this.#readFor(oldest.id);
      await within(LIMIT_MS, this.#reading, this.#clock);
    }
    return this.#known?.forId === oldest.id ? { ...oldest, ...this.#known.shown } : oldest;
  }

  async #readFor(id: number): Promise<void> {
    try {
      const [packet] = await this.#read(id - 1);
      if (packet === undefined) return;
      const head = packet.payload.subarray(0, MAX_HEAD_BYTES).toBase64();
      this.#known = { forId: id, shown: { id: packet.id, bytes: packet.payload.length, head } };
    } catch {
      // The queue is closed: a report without it is better than none.
    } finally {
      this.#reading = undefined;
    }
  }
}
