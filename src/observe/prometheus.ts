/**
 * The figures in Prometheus' text exposition format.
 *
 * Names are made from OpenTelemetry's as its compatibility specification says:
 * underscores for dots, the unit behind, `_total` behind a counter.
 *
 * @module
 */

import { Counter, Gauge, Registry } from "prom-client";
import { type Figure, FIGURES, type Point, type Reading } from "./figures.ts";

const UNITS: Readonly<Record<string, string>> = { By: "_bytes", s: "_seconds" };

/** What belongs into `Content-Type` beside {@linkcode prometheusText}. */
export const PROMETHEUS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * Writes a reading as text.
 *
 * @param reading What to write.
 * @param labels Put on every figure.
 */
export async function prometheusText(
  reading: Reading,
  labels: Readonly<Record<string, string>>,
): Promise<string> {
  // A new one each time: a counter of prom-client can only be added to.
  const registry = new Registry();
  registry.setDefaultLabels({ ...labels });
  for (const figure of FIGURES) add(registry, figure, figure.points(reading));
  return await registry.metrics();
}

function add(registry: Registry, figure: Figure, points: readonly Point[]): void {
  if (points.length === 0) return;
  const configuration = {
    name: prometheusName(figure),
    help: figure.description,
    labelNames: Object.keys(points[0]?.attributes ?? {}).map(escapeName),
    registers: [registry],
  };
  const counter = figure.kind === "counter" ? new Counter(configuration) : undefined;
  const gauge = counter === undefined ? new Gauge(configuration) : undefined;
  for (const { value, attributes = {} } of points) {
    const own = Object.fromEntries(
      Object.entries(attributes).map(([key, text]) => [escapeName(key), text]),
    );
    counter?.inc(own, value);
    gauge?.set(own, value);
  }
}

/** What a figure is called in Prometheus. */
export function prometheusName({ name, unit, kind }: Figure): string {
  return escapeName(name) + (UNITS[unit] ?? "") + (kind === "counter" ? "_total" : "");
}

function escapeName(name: string): string {
  return name.replaceAll(".", "_");
}
