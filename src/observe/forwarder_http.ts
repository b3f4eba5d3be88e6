/** A forwarder's status over HTTP. */

import { systemClock } from "../base/clock.ts";
import { seconds } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { Outage } from "../delivery/status.ts";
import type {
  ForwarderState,
  ForwarderStats,
  ReadableForwarder,
} from "../postgres/forwarder_status.ts";
import { type Condition, inOneLine } from "../sender/condition.ts";
import { outageWords } from "../sender/outage.ts";
import type { Access } from "./access.ts";
import { FORWARDER_FIGURES, readForwarder } from "./forwarder_figures.ts";
import type { HttpAnswer, HttpRequest } from "./listener.ts";
import { Progress } from "./progress.ts";
import { PROMETHEUS_CONTENT_TYPE, textOfFigures } from "./prometheus.ts";
import { methodRefusal, refuse, respond, serve, statusOptionsOf, text } from "./serve.ts";
import type { StatusServer, StatusServerOptions } from "./status_server.ts";

/** Progress is looked for this often. */
const LOOK_MS = 1000;

/** Whether a forwarder does its work. */
export interface ForwarderHealth {
  /** Not closed, and not without progress for longer than the limit. */
  readonly ok: boolean;
  /** In words. */
  readonly reason: string;
  /** How long packets have waited while none was forwarded; 0: they have not. */
  readonly undeliverableMs: number;
  /** The limit. */
  readonly undeliverableLimitMs: number;
}

/** How a forwarder stands: what `/status` answers. */
export interface ForwarderReport {
  /** When, in milliseconds since 1970. */
  readonly atMs: number;
  /** What people call the edge. */
  readonly edge: string;
  /** Where its packets go. */
  readonly to: string;
  /** The edge's file. */
  readonly queuePath: string;
  /** What it is doing. */
  readonly state: ForwarderState;
  /** The same in words. */
  readonly condition: Condition;
  /** The present outage, and for how long it has lasted, in words. */
  readonly outage: (Outage & { readonly words: string }) | null;
  /** What `/healthz` says. */
  readonly health: ForwarderHealth;
  /** Counters and figures. */
  readonly stats: ForwarderStats;
}

/**
 * Serves a forwarder's status: `/healthz` says 200, or 503 with the reason, `/metrics` has
 * figures in Prometheus' text format, `/status` a {@linkcode ForwarderReport} as JSON, and `/`
 * a few lines of text. With a token, requests have to bring it as
 * `Authorization: Bearer TOKEN`.
 *
 * Needs `--allow-net` for the address that it listens on. Dispose of it with the forwarder.
 *
 * @param forwarder Whose status.
 * @param options Where, and for whom; payloads are never shown.
 * @throws {RangeError} An option is out of range, or the address is not a loopback one and
 *   there is no token.
 * @throws {Deno.errors.AddrInUse} Somebody listens there already.
 * @throws {ListenError} It cannot listen there: this host does not have the address, for example.
 * @throws {Deno.errors.NotCapable} The permission is missing.
 */
export function serveForwarderStatus(
  forwarder: ReadableForwarder,
  options: Omit<StatusServerOptions, "showPayloads"> = {},
): StatusServer {
  const { clock = systemClock } = options;
  const { undeliverableLimitMs } = statusOptionsOf(options);
  return serve(options, (access) => {
    const view = new ForwarderView(forwarder, clock, undeliverableLimitMs);
    return {
      answer: (request) =>
        Promise.resolve(
          methodRefusal(request) ?? refusalOf(access, request) ?? view.answer(request),
        ),
      stop: () => view.stop(),
    };
  }).server;
}

function refusalOf(access: Access, request: HttpRequest): HttpAnswer | undefined {
  const refusal = access.refuse(request);
  return refusal === undefined ? undefined : refuse(refusal);
}

class ForwarderView {
  readonly #forwarder: ReadableForwarder;
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #progress: Progress;
  #cancelLook: () => void = () => {};

  constructor(forwarder: ReadableForwarder, clock: Clock, limitMs: number) {
    this.#forwarder = forwarder;
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#progress = new Progress(clock, forwarder.queue.removedThroughId);
    this.#watch();
  }

  stop(): void {
    this.#cancelLook();
  }

  #watch(): void {
    this.#cancelLook = this.#clock.setTimer(LOOK_MS, () => this.#watch());
    this.#measure();
  }

  #measure(): ReturnType<Progress["measure"]> {
    const { queue } = this.#forwarder;
    const { packets, storeFailure } = queue.stats();
    return this.#progress.measure({
      reached: queue.removedThroughId,
      isWaiting: packets > 0,
      failsToStore: storeFailure !== undefined,
    });
  }

  health(): ForwarderHealth {
    const { undeliverableMs, unstorableMs } = this.#measure();
    const { state, condition, queue, queueFailure } = this.#forwarder;
    const isLate = undeliverableMs > this.#limitMs;
    const ok = state !== "closed" && queueFailure === undefined && !isLate &&
      unstorableMs <= this.#limitMs;
    const words = `${condition.headline}. ${condition.detail}`;
    const reason = !isLate || state === "closed"
      ? words
      : `No packet forwarded for ${seconds(undeliverableMs)} (limit ${seconds(this.#limitMs)}), ` +
        `packets queued: ${queue.stats().packets}. ${words}`;
    return { ok, reason, undeliverableMs, undeliverableLimitMs: this.#limitMs };
  }

  report(): ForwarderReport {
    const { edge, to, queue, state, condition, outage } = this.#forwarder;
    const atMs = this.#clock.wallMs();
    return {
      ...{ atMs, edge, to, queuePath: queue.path, state, condition },
      outage: outage === undefined ? null : { ...outage, words: outageWords(outage, atMs) },
      health: this.health(),
      stats: this.#forwarder.stats(),
    };
  }

  answer({ pathname }: HttpRequest): HttpAnswer {
    switch (pathname) {
      case "/":
        return text(200, this.#lines().join("\n"));
      case "/healthz": {
        const { ok, reason } = this.health();
        return text(ok ? 200 : 503, reason);
      }
      case "/metrics": {
        const { edge, to } = this.#forwarder;
        const reading = readForwarder(this.#forwarder, this.#clock.wallMs());
        const body = textOfFigures(FORWARDER_FIGURES, [{ reading, labels: { edge, to } }]);
        return respond(200, PROMETHEUS_CONTENT_TYPE, body);
      }
      case "/status":
        return respond(200, "application/json", JSON.stringify(this.report(), null, 2));
      default:
        return text(404, "not found");
    }
  }

  #lines(): string[] {
    const { edge, to, queuePath, condition, outage, stats } = this.report();
    const { queue, through, forwardedPackets } = stats;
    return [
      `edge ${edge}: ${inOneLine(condition)}`,
      `from ${queuePath} to ${to}`,
      `${forwardedPackets} packets forwarded, ${queue.packets} queued, ` +
      `${queue.deadPackets} dead letters`,
      `the cluster has ids up to ${through ?? "one that is not known yet"}`,
      ...(outage === null ? [] : [`outage ${outage.words}`]),
      "/healthz, /metrics and /status have it for programs",
    ];
  }
}
