import assert from "node:assert/strict";
import {
  type BatchObservableCallback,
  createNoopMeter,
  type MeterProvider,
  metrics,
  type Observable,
} from "@opentelemetry/api";
import type { TlsSession } from "../../src/base/ports.ts";
import { FIGURES, QUEUE_FIGURES } from "../../src/observe/figures.ts";
import { FORWARDER_FIGURES } from "../../src/observe/forwarder_figures.ts";
import { instrument } from "../../src/observe/metrics.ts";
import { prometheusName } from "../../src/observe/prometheus.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { Sender } from "../../src/sender/sender.ts";
import { LIBC } from "../cli/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

/** The parts of OTLP's JSON that are looked at. */
interface Attribute {
  readonly key: string;
  readonly value: { stringValue?: string; doubleValue?: number };
}
interface DataPoint {
  readonly asInt?: string | number;
  readonly asDouble?: number;
  readonly attributes: readonly Attribute[];
}
interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
  readonly sum?: { readonly isMonotonic: boolean; readonly dataPoints: readonly DataPoint[] };
  readonly gauge?: { readonly dataPoints: readonly DataPoint[] };
}
interface Span {
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status?: { readonly code?: number };
}
interface Export {
  readonly resourceMetrics?: readonly {
    readonly scopeMetrics: readonly { readonly metrics: readonly Metric[] }[];
  }[];
  readonly resourceSpans?: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

const valueOf = (attributes: readonly Attribute[], key: string) => {
  const value = attributes.find((attribute) => attribute.key === key)?.value;
  return value?.stringValue ?? value?.doubleValue;
};

Deno.test("Deno's own exporter sends the figures and a span for each connection", async () => {
  const exported = new Map<string, Metric>();
  const spans: Span[] = [];
  await using collector = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, async (request) => {
    const { resourceMetrics = [], resourceSpans = [] }: Export = await request.json();
    for (const { scopeMetrics } of resourceMetrics) {
      for (const metric of scopeMetrics.flatMap((scope) => scope.metrics)) {
        exported.set(metric.name, metric);
      }
    }
    for (const { scopeSpans } of resourceSpans) {
      spans.push(...scopeSpans.flatMap((scope) => scope.spans));
    }
    return Response.json({});
  });
  const directory = await Deno.makeTempDir();
  const files = `${directory}/outbox.db,${directory}/outbox.db.lock`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--allow-net=127.0.0.1", `--allow-ffi=${LIBC}`],
      ...[`--allow-read=${files}`, `--allow-write=${files}`],
      new URL("otel_child.ts", import.meta.url).pathname,
      `${directory}/outbox.db`,
    ],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_METRIC_EXPORT_INTERVAL: "100",
    },
    stdin: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const established = () => {
    const point = exported.get("sendq.connection.established")?.sum?.dataPoints[0];
    return { connections: Number(point?.asInt ?? point?.asDouble), ...point };
  };
  await until("the figures of the second connection", () => established().connections === 2);
  await child.stdin.close();
  assert.equal((await child.status).code, 0, await stderr);
  await Deno.remove(directory, { recursive: true });

  const ours = spans.filter(({ name }) => name === "sendq.connection");
  assert.equal(ours.length, 2, "each connection has its span");
  const [first, second] = ours.sort((a, b) =>
    Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano))
  );
  assert.ok(first !== undefined && second !== undefined);
  for (const span of [first, second]) {
    assert.equal(span.kind, 3, "CLIENT");
    assert.ok(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano));
    assert.equal(valueOf(span.attributes, "server.address"), "127.0.0.1");
    assert.equal(valueOf(span.attributes, "network.peer.address"), "127.0.0.1");
    assert.equal(valueOf(span.attributes, "service.instance.id"), "under test");
  }
  assert.equal(valueOf(first.attributes, "sendq.verdict.name"), "reset");
  assert.equal(valueOf(first.attributes, "error.type"), "reset");
  assert.equal(first.status?.code, 2, "ERROR");
  assert.equal(valueOf(second.attributes, "error.type"), undefined);
  assert.equal(valueOf(second.attributes, "sendq.drained.packets"), 1);
  assert.equal(valueOf(second.attributes, "sendq.acked.bytes"), 6);

  for (const figure of FIGURES) {
    // The path has no figures by the time of the last export.
    const metric = exported.get(figure.name);
    if (metric === undefined) {
      assert.match(figure.name, /^sendq\.(path|tls|lease|replication)\./);
      continue;
    }
    assert.equal(metric.unit, figure.unit);
    assert.equal(metric.description, figure.description);
    assert.equal(metric.gauge !== undefined, figure.kind === "gauge", figure.name);
    if (figure.kind !== "gauge") {
      assert.equal(metric.sum?.isMonotonic, figure.kind === "counter", figure.name);
    }
  }
  assert.equal(valueOf(established().attributes ?? [], "service.instance.id"), "under test");
});

/** A meter provider that remembers what is to be read, and never reads it. */
class IdleMeters implements MeterProvider {
  readonly callbacks = new Set<BatchObservableCallback>();

  getMeter() {
    const meter = createNoopMeter();
    meter.addBatchObservableCallback = (callback) => void this.callbacks.add(callback);
    meter.removeBatchObservableCallback = (callback) => void this.callbacks.delete(callback);
    return meter;
  }
}

Deno.test("figures are read when they are asked for, and not at all after the end", async () => {
  const directory = await Deno.makeTempDir();
  await using server = new ScriptedServer().start();
  server.readAll();
  const sender = await Sender.open({ queue: `${directory}/outbox.db`, remote: server.remote });
  const meters = new IdleMeters();
  let reads = 0;
  const stats = sender.stats.bind(sender);
  sender.stats = () => {
    reads++;
    return stats();
  };
  metrics.setGlobalMeterProvider(meters);
  const instrumented = instrument(sender, { attributes: { line: 7 } });
  assert.equal(meters.callbacks.size, 1);
  reads = 0;
  const [callback] = meters.callbacks;
  const observed: { value: number; attributes: Record<string, unknown> }[] = [];
  await callback?.({
    observe: (_observable: Observable, value: number, attributes = {}) =>
      void observed.push({ value, attributes }),
  });
  assert.equal(reads, 1, "one reading serves all figures");
  // Of a path, TLS, a lease and a verdict there is nothing to say without a connection.
  assert.ok(observed.length > QUEUE_FIGURES.length);
  for (const { attributes } of observed) {
    assert.equal(attributes["line"], 7);
    assert.equal(attributes["network.transport"], "tcp");
  }
  instrumented[Symbol.dispose]();
  metrics.disable();
  assert.equal(meters.callbacks.size, 0);
  await sender.enqueue(new TextEncoder().encode("after the end\n"));
  await until("delivery", () => stats().drainedPackets === 1);
  await sender.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("of a connection over TLS: its version, its suite, and how long certificates last", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  const reading = (tls: TlsSession | undefined) => ({
    stats: {
      ...{ inFlightPackets: 0, inFlightBytes: 0, heldPackets: 0, drainedPackets: 0, ackedBytes: 0 },
      ...{
        confirmedPackets: 0,
        redeliveredPackets: 0,
        connections: 1,
        failedAttempts: 0,
        receivedBytes: 0,
      },
      receivedBytesDiscarded: 0,
      confirmedBy: "kernel" as const,
      queue: queue.stats(),
      path: {
        ...{ localAddress: "192.0.2.1:50123", remoteAddress: "192.0.2.7:6514", rttMs: 1 },
        ...{ sendQueueBytes: 0, notSentBytes: 0, sendWindowBytes: 1, silenceMs: 0 },
        retransmittedSegments: 0,
        ...(tls === undefined ? {} : { tls }),
      },
    },
    ...{
      state: "connected",
      verdict: "healthy",
      tone: "good",
      wallMs: 10_000,
      fileBytes: 0,
    } as const,
  });
  const pointsOf = (name: string, tls?: TlsSession) =>
    FIGURES.find((figure) => figure.name === name)?.points(reading(tls));
  const tls = {
    version: "TLSv1.3",
    cipherSuite: "TLS_AES_256_GCM_SHA384",
    serverCertificateExpiresAtMs: 70_000,
    clientCertificateExpiresAtMs: 5000,
  };
  assert.deepEqual(pointsOf("sendq.tls.session", tls), [{
    value: 1,
    attributes: { "tls.protocol.version": "1.3", "tls.cipher": "TLS_AES_256_GCM_SHA384" },
  }]);
  const remaining = "sendq.tls.certificate.remaining";
  assert.deepEqual(pointsOf(remaining, tls), [
    { value: 60, attributes: { "sendq.tls.side": "server" } },
    { value: -5, attributes: { "sendq.tls.side": "client" } },
  ]);
  assert.equal(
    pointsOf(remaining, { ...tls, clientCertificateExpiresAtMs: undefined })?.length,
    1,
  );
  assert.deepEqual([pointsOf("sendq.tls.session"), pointsOf(remaining)], [[], []]);
});

/** Those of a forwarder begin with those of a queue as well. */
const EVERY_FIGURE = [...FIGURES, ...FORWARDER_FIGURES.slice(QUEUE_FIGURES.length)];

Deno.test("docs/METRICS.md has every figure, as the code has it", async () => {
  const text = await Deno.readTextFile(new URL("../../docs/METRICS.md", import.meta.url));
  const rows = text.split("\n").filter((line) => /^\| `sendq\.[a-z_.]+`\s+\| `sendq_/.test(line))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  const expected = EVERY_FIGURE.map((figure) => [
    `\`${figure.name}\``,
    `\`${prometheusName(figure)}\``,
    `\`${figure.unit}\``,
    figure.kind,
    figure.description,
  ]);
  assert.deepEqual(rows, expected);
});

Deno.test("docs/METRICS.md has every value of the attributes that name one of several", async () => {
  const text = await Deno.readTextFile(new URL("../../docs/METRICS.md", import.meta.url));
  const reading = {
    ...{ state: "idle", verdict: "healthy", tone: "idle" },
    stats: { confirmedBy: "kernel" },
  };
  for (const name of ["sendq.state", "sendq.condition", "sendq.confirmation", "sendq.verdict"]) {
    const row = new RegExp(`^\\| \`${name}\` +\\| \`${name}\\.name\` +\\| (.*) \\|$`, "m").exec(
      text,
    );
    const points = FIGURES.find((figure) => figure.name === name)?.points(reading as never) ?? [];
    assert.deepEqual(
      row?.[1]?.trim().split(", ").toSorted(),
      points.map(({ attributes }) => `\`${attributes?.[`${name}.name`]}\``).toSorted(),
      name,
    );
  }
});

Deno.test("names and units keep to the conventions", () => {
  for (const { name, unit, kind } of EVERY_FIGURE) {
    assert.match(name, /^sendq(\.[a-z][a-z_]*)+$/);
    assert.ok(!/bytes|seconds|total/.test(name), `${name}: the unit is a field of its own`);
    assert.match(unit, /^(By|s|1|\{[a-z]+\})$/, name);
    assert.ok(kind !== "counter" || unit !== "1", name);
  }
  assert.equal(new Set(EVERY_FIGURE.map(({ name }) => name)).size, EVERY_FIGURE.length);
});
