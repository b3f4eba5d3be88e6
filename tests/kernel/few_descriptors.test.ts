/** A process that may open fewer files than poll is asked about at a time. */

import assert from "node:assert/strict";
import { noChildren, testUnless } from "./helpers.ts";

const DESCRIPTORS = new URL("../../src/kernel/descriptor.ts", import.meta.url).href;
const LIBC = new URL("../../src/kernel/libc.ts", import.meta.url).href;

for (const limit of [50, 256, 1024]) {
  testUnless(
    noChildren(),
    `descriptors: the open ones are told from 65,536 where ${limit} may be open`,
    async () => {
      const code = `import { openDescriptors } from ${JSON.stringify(DESCRIPTORS)};
        import { loadLibc } from ${JSON.stringify(LIBC)};
        loadLibc();
        using file = Deno.openSync("/dev/null");
        console.log(JSON.stringify([...openDescriptors()]));`;
      const { stdout, stderr } = await new Deno.Command("sh", {
        args: ["-c", `ulimit -n ${limit}; exec "$0" eval --no-lock "$1"`, Deno.execPath(), code],
        stdin: "null",
      }).output();
      const text = new TextDecoder().decode(stdout);
      assert.notEqual(text, "", new TextDecoder().decode(stderr));
      const open: readonly number[] = JSON.parse(text);
      assert.ok(open.length <= limit, `${open.length} are open`);
      // Standard input, output and error, and more: nobody has only these.
      assert.deepEqual(open.slice(0, 3), [0, 1, 2]);
      assert.ok(open.length > 3);
    },
  );
}
