import assert from "node:assert/strict";
import { Fifo } from "../../src/base/fifo.ts";
import fc from "../support/properties.ts";

type Step = readonly ["push", number] | readonly ["shift" | "pop" | "set"];

Deno.test("a line is what an array is to which the same was done", () => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.tuple(fc.constant("push" as const), fc.integer()),
    fc.tuple(fc.constantFrom("shift" as const, "pop" as const)),
    { weight: 1, arbitrary: fc.constant(["set"] as const) },
  );
  // Enough that many have gone at a time.
  const steps = fc.array(step, { maxLength: 1000, size: "max" });
  fc.assert(fc.property(fc.nat(300), steps, (pushes, steps) => {
    const [line, array] = [new Fifo<number>(), [] as number[]];
    const all: Step[] = [
      ...Array.from({ length: pushes }, (_, i) => ["push", i] as const),
      ...steps,
    ];
    for (const [what, value] of all) {
      if (what === "push") {
        line.push(value);
        array.push(value);
      } else if (what === "set") {
        line.set(line.slice(1));
        array.shift();
      } else {
        assert.equal(line[what](), array[what]());
      }
      assert.deepEqual([line.length, line.at(0), line.last], [
        array.length,
        array[0],
        array.at(-1),
      ]);
    }
    assert.deepEqual(line.slice(), array);
    assert.deepEqual(line.slice(1, 3), array.slice(1, 3));
    assert.deepEqual(array.map((_, i) => line.at(i)), array);
  }));
});
