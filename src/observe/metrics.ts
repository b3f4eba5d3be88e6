/**
 * OpenTelemetry metrics and spans of a sender.
 *
 * ```ts ignore
 * import { Sender } from "@sendq/sendq";
 * import { instrument } from "@sendq/sendq/metrics";
 *
 * await using sender = await Sender.open("outbox.db", "tcp://legacy:4000");
 * using _instruments = instrument(sender);
 * ```
 *
 * Deno exports what is recorded here by itself when it runs with
 * `OTEL_DENO=true`; anywhere else an SDK can be registered. Without either the
 * API does nothing: no figure is ever read.
 *
 * @module
 */

import {
  type Attributes,
  type BatchObservableResult,
  metrics,
  type Observable,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import denoJson from "../../deno.json" with { type: "json" };
import { systemClock } from "../base/clock.ts";
import { parseRemote } from "../base/remote.ts";
import { describeVerdict } from "../delivery/liveness.ts";
import type { SenderStatus } from "../delivery/status.ts";
import { behindOf, type Sender } from "../sender/sender.ts";
import { isTrouble } from "../sender/verdict_meaning.ts";
import { FIGURES, readSender } from "./figures.ts";

/** How to instrument a sender. */
export interface InstrumentOptions {
  /**
   * Put on every figure and span, beside `server.address`, `server.port` and
   * `network.transport`; what tells several senders of one process apart.
   *
   * @default {} none
   */
  readonly attributes?: Readonly<Record<string, string | number | boolean>>;
}

/**
 * Publishes a sender's figures, and a span for each of its connections. The
 * span carries the verdict that ended the connection, and each change of
 * verdict before that as an event; packets have no spans.
 *
 * @param sender Whom to publish.
 * @param options Attributes.
 * @returns Ends it: figures are no longer read, and an open span is ended.
 *
 * @example
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { instrument } from "@sendq/sendq/metrics";
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * const sender = await Sender.open(queue, "tcp://127.0.0.1:4000");
 * using _instrumented = instrument(sender, { attributes: { "service.instance.id": "weather" } });
 * await sender.close();
 * ```
 */
export function instrument(sender: Sender, options: InstrumentOptions = {}): Disposable {
  const attributes = { ...serverAttributes(sender.remote), ...options.attributes };

  const meter = metrics.getMeter(denoJson.name, denoJson.version);
  const instruments = FIGURES.map((figure): [typeof figure, Observable] => {
    const { name, unit, description } = figure;
    switch (figure.kind) {
      case "counter":
        return [figure, meter.createObservableCounter(name, { unit, description })];
      case "updowncounter":
        return [figure, meter.createObservableUpDownCounter(name, { unit, description })];
      case "gauge":
        return [figure, meter.createObservableGauge(name, { unit, description })];
      default:
        throw new TypeError(`Unknown kind ${JSON.stringify(figure.kind satisfies never)}`);
    }
  });
  const observables = instruments.map(([, observable]) => observable);
  const observe = (result: BatchObservableResult) => {
    const reading = readSender(sender, systemClock.wallMs());
    for (const [figure, observable] of instruments) {
      for (const { value, attributes: own } of figure.points(reading)) {
        result.observe(observable, value, { ...attributes, ...own });
      }
    }
  };
  meter.addBatchObservableCallback(observe, observables);

  const statuses = behindOf(sender).statuses();
  const tracer = trace.getTracer(denoJson.name, denoJson.version);
  const spans = new ConnectionSpans((startTime, own) =>
    tracer.startSpan("sendq.connection", {
      kind: SpanKind.CLIENT,
      startTime,
      attributes: { ...attributes, ...own },
    }, ROOT_CONTEXT)
  );
  void (async () => {
    for await (const status of statuses) spans.take(status);
  })();
  return {
    [Symbol.dispose]() {
      meter.removeBatchObservableCallback(observe, observables);
      void statuses.return?.();
      spans.end(systemClock.wallMs());
    },
  };
}

/** Makes spans of statuses: one from each connect to the end of that connection. */
class ConnectionSpans {
  readonly #start: (startTime: number, attributes: Attributes) => Span;
  #open: { readonly span: Span; readonly first: SenderStatus; latest: SenderStatus } | undefined;

  constructor(start: (startTime: number, attributes: Attributes) => Span) {
    this.#start = start;
  }

  take(status: SenderStatus): void {
    const up = status.state === "connected" || status.state === "ending";
    // A listener that lagged behind may have missed the end of one connection.
    const same = this.#open?.first.stats.connections === status.stats.connections;
    if (this.#open !== undefined && same) {
      const before = this.#open.latest.verdict.kind;
      this.#open.latest = status;
      if (up && status.verdict.kind !== before) {
        this.#open.span.addEvent("sendq.verdict.change", {
          "sendq.verdict.name": status.verdict.kind,
          "sendq.verdict.words": describeVerdict(status.verdict),
        }, status.atMs);
      }
    }
    if (this.#open !== undefined && !(up && same)) this.end(status.atMs);
    if (up && this.#open === undefined) {
      const { path, connections } = status.stats;
      const span = this.#start(status.atMs, {
        "sendq.connection.number": connections,
        ...(path && endpoint("network.local", path.localAddress)),
        ...(path && endpoint("network.peer", path.remoteAddress)),
      });
      this.#open = { span, first: status, latest: status };
    }
  }

  end(atMs: number): void {
    if (this.#open === undefined) return;
    const { span, first, latest: { stats, verdict } } = this.#open;
    this.#open = undefined;
    span.setAttributes({
      "sendq.verdict.name": verdict.kind,
      "sendq.drained.packets": stats.drainedPackets - first.stats.drainedPackets,
      "sendq.acked.bytes": stats.ackedBytes - first.stats.ackedBytes,
    });
    if (isTrouble(verdict.kind)) {
      span.setAttribute("error.type", verdict.kind);
      span.setStatus({ code: SpanStatusCode.ERROR, message: describeVerdict(verdict) });
    }
    span.end(atMs);
  }
}

function serverAttributes(remote: string): Attributes {
  try {
    const parsed = parseRemote(remote);
    const transport = { "network.transport": parsed.scheme === "unix" ? "unix" : "tcp" };
    if (parsed.standbys !== undefined) return { "server.address": remote, ...transport };
    if (parsed.scheme === "unix") return { "server.address": parsed.path, ...transport };
    return { "server.address": parsed.hostname, "server.port": parsed.port, ...transport };
  } catch {
    return { "server.address": remote }; // A dialer of the user's own, with a name of its own.
  }
}

/** `"[::1]:4000"` as `PREFIX.address` and `PREFIX.port`; a Unix socket has no port. */
function endpoint(prefix: string, text: string): Attributes {
  if (text.startsWith("unix:")) return { [`${prefix}.address`]: text.slice("unix:".length) };
  const colon = text.lastIndexOf(":");
  return {
    [`${prefix}.address`]: text.slice(0, colon).replace(/^\[(.*)\]$/, "$1"),
    [`${prefix}.port`]: Number(text.slice(colon + 1)),
  };
}
