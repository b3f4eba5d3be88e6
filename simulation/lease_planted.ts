/**
 * Faults planted into copies of the lease, and of what stands between a sender and its
 * connection.
 *
 * @module
 */

import type { Planted } from "./planted.ts";

const LEASE = "src/postgres/lease.ts";
const DIALER = "src/sender/tenured_dialer.ts";
const worker = "lease_worker.ts";

/** All of them. */
export const LEASE_PLANTED: readonly Planted[] = [
  {
    name: "lease: not looked at before a write",
    file: DIALER,
    worker,
    patches: [[
      "return this.#mayGoOn() ? this.#wire.write(bytes) : Promise.reject(lapsed());",
      "return this.#wire.write(bytes);",
    ]],
  },
  {
    name: "lease: counted from the answer",
    file: LEASE,
    worker,
    patches: [[
      "this.#validUntilMs = Math.max(this.#validUntilMs, askedAtMs + this.#goodForMs);",
      "void askedAtMs;\n    this.#validUntilMs = clock.nowMs() + this.#goodForMs;",
    ]],
  },
  {
    name: "lease: taken from the answer on",
    file: LEASE,
    worker,
    patches: [[
      "if (epoch !== undefined) return new Lease(epoch, takenAtMs, options);",
      "void takenAtMs;\n          if (epoch !== undefined) return new Lease(epoch, clock.nowMs(), options);",
    ]],
  },
  {
    name: "lease: the beat is as old as the question",
    file: LEASE,
    worker,
    patches: [[
      "seen = { row, sinceMs: clock.nowMs() };",
      "seen = { row, sinceMs: askedAtMs };",
    ]],
  },
  {
    name: "lease: no more patience than the holder has",
    file: LEASE,
    worker,
    patches: [
      ["const PATIENCE = 1.02;", "const PATIENCE = 0.7;"],
    ],
  },
  {
    name: "lease: an old sight of the beat counts on",
    file: LEASE,
    worker,
    patches: [[
      "if (seen === undefined || !isSame(seen.row, row)) {",
      "if (seen === undefined) {",
    ]],
  },
  {
    name: "lease: nobody is told that it has lapsed",
    file: LEASE,
    worker,
    patches: [[
      "for (const onLapsed of [...this.#onLapsed]) onLapsed();",
      "",
    ]],
  },
  {
    name: "lease: a lost one beats on",
    file: LEASE,
    worker,
    patches: [["if (!holds) {", "if (!holds && this.#isReleased) {"]],
  },
  {
    name: "lease: lapsed is lost",
    file: LEASE,
    worker,
    patches: [["if (this.#validUntilMs > clock.nowMs()) this.#hasLapsed = false;", ""]],
  },
];
