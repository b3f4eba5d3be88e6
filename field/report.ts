/**
 * The tables of the field ring, for people: in Markdown, as docs/FIELD.md has them.
 *
 * @module
 */

import type { Report } from "./case.ts";

type Row = readonly (string | number)[];

/** Everything, one table after the other. */
export function formatReport(report: Report): string {
  const { date, machine, servers, clients, refusals, leftOut } = report;
  return [
    table(
      [
        ...["server", "version", "load", "sent", "lost", "duplicates", "at most"],
        ...["out of order", "dead letters", "connections", "result"],
      ],
      servers.map((row) => [
        ...[row.case, row.version, row.load, row.sent, row.lost, row.duplicated ?? "–"],
        ...[row.duplicatesBound, row.outOfOrder ?? "–", row.deadLetters, row.connections],
        resultOf(row.failures, row.notes),
      ]),
    ),
    table(
      ["client, two at once", "version", "sent", "lost", "duplicates", "out of order", "result"],
      clients.map((row) => [
        ...[row.case, row.version, row.sent, row.lost, row.duplicated, row.outOfOrder],
        resultOf(row.failures, row.notes),
      ]),
    ),
    table(
      ["refusal", "what the log says", "result"],
      refusals.map((row) => [row.case, `\`${row.words}\``, resultOf(row.failures, [])]),
    ),
    table(["left out", "why"], leftOut.map((row) => [row.case, row.reason])),
    `${date}, ${machine}\n`,
  ].filter((part) => part !== "").join("\n");
}

/** The rows in Markdown, with columns of one width; empty without rows. */
function table(titles: Row, rows: readonly Row[]): string {
  if (rows.length === 0) return "";
  const cells = [titles, ...rows].map((row) =>
    row.map((cell) => String(cell).replaceAll("|", "\\|").replaceAll("\n", " "))
  );
  const widths = titles.map((_, column) =>
    Math.max(...cells.map((row) => [...row[column] ?? ""].length))
  );
  const lines = cells.map((row) =>
    `| ${
      row.map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - [...cell].length)).join(" | ")
    } |`
  );
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return lines.join("\n") + "\n";
}

function resultOf(failures: readonly string[], notes: readonly string[]): string {
  if (failures.length > 0) return `FAILED: ${failures.join("; ")}`;
  return ["ok", ...notes].join("; ");
}
