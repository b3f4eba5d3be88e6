/**
 * Where distributions keep what sendq looks for, and what they leave out: as
 * directories to change the root to. No file of theirs is in them: the C library
 * is this machine's, laid out as they lay out their own. What is theirs alone (a
 * kernel, a newer glibc, a Deno built for musl) is not tried by this.
 *
 * @module
 */

import { dirname } from "node:path";

const { arch } = Deno.build;
const MULTIARCH = `${arch}-linux-gnu`;
/** The program that loads programs. Each of them holds this path. */
const LOADER = arch === "x86_64" ? "/lib64/ld-linux-x86-64.so.2" : "/lib/ld-linux-aarch64.so.1";

/** How one distribution lays out what sendq and Deno need. */
export interface Layout {
  /** The distribution. */
  readonly name: string;
  /** Where its glibc lies. */
  readonly glibc: string;
  /** Its C library, as README says that it is granted; `undefined`: at no known path. */
  readonly granted: string | undefined;
  /** Symbolic links, by their path. */
  readonly links: Readonly<Record<string, string>>;
  /** Text files, by their path. */
  readonly files: Readonly<Record<string, string>>;
  /** How the loader finds the libraries: by its cache, or by LD_LIBRARY_PATH. */
  readonly findsBy: "cache" | "variable";
}

/** One directory for all programs and one for all libraries. */
const MERGED = { "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib" };
const HOSTS = { "etc/hosts": "127.0.0.1 localhost\n" };
const ROOT_ALONE = { "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n" };
const SWITCH = { "etc/nsswitch.conf": "hosts: files dns\n" };
const DEBIAN_SWITCH = {
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
};

export const DEBIAN: Layout = {
  name: "Debian slim",
  glibc: `/usr/lib/${MULTIARCH}`,
  granted: `/lib/${MULTIARCH}/libc.so.6`,
  links: { ...MERGED, "lib64": "usr/lib64" },
  files: { ...HOSTS, ...ROOT_ALONE, ...DEBIAN_SWITCH, "etc/resolv.conf": "" },
  findsBy: "cache",
};

/** No shell, no program but the one that was put in. */
export const DISTROLESS: Layout = {
  name: "distroless",
  glibc: `/usr/lib/${MULTIARCH}`,
  granted: `/lib/${MULTIARCH}/libc.so.6`,
  links: { ...MERGED, "lib64": "usr/lib64" },
  files: {
    ...HOSTS,
    ...SWITCH,
    "etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n" +
      "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n" +
      "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
  },
  findsBy: "cache",
};

/** musl for its own programs, and glibc beside it for Deno. No /etc/nsswitch.conf. */
export const ALPINE: Layout = {
  name: "the image denoland/deno:alpine",
  glibc: "/usr/local/lib/glibc",
  granted: "/usr/local/lib/glibc/libc.so.6",
  links: {},
  files: {
    ...HOSTS,
    ...ROOT_ALONE,
    "etc/resolv.conf": "",
    // Not a library: whoever loads musl into a process with glibc fails at once.
    [`lib/ld-musl-${arch}.so.1`]: "musl\n",
    [`lib/libc.musl-${arch}.so.1`]: "musl\n",
  },
  findsBy: "variable",
};

/** A path that nobody knows beforehand, and no other. `nix-ld` puts the loader in its place. */
const NIXOS: Layout = {
  name: "NixOS",
  glibc: "/nix/store/0wydilnf1c9vznywsvxqnaing4wraaxp-glibc-2.40-36/lib",
  granted: undefined,
  links: {},
  files: {
    ...HOSTS,
    ...ROOT_ALONE,
    "etc/nsswitch.conf": "hosts: mymachines files myhostname dns\n",
  },
  findsBy: "variable",
};

export const LAYOUTS: readonly Layout[] = [
  DEBIAN,
  {
    ...DEBIAN,
    name: "Ubuntu",
    // Its resolver's file is made at run time, and dangles until then.
    links: { ...DEBIAN.links, "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf" },
    files: {
      ...HOSTS,
      ...ROOT_ALONE,
      "etc/nsswitch.conf": "hosts: files mdns4_minimal [NOTFOUND=return] dns\n",
    },
  },
  DISTROLESS,
  ALPINE,
  {
    name: "Fedora",
    glibc: "/usr/lib64",
    granted: "/lib64/libc.so.6",
    links: { ...MERGED, "lib64": "usr/lib64" },
    files: {
      ...HOSTS,
      ...ROOT_ALONE,
      "etc/nsswitch.conf": "hosts: files myhostname resolve [!UNAVAIL=return] dns\n",
    },
    findsBy: "cache",
  },
  {
    name: "Arch",
    glibc: "/usr/lib",
    granted: "/usr/lib/libc.so.6",
    links: { ...MERGED, "lib64": "usr/lib", "usr/lib64": "lib", "usr/sbin": "bin" },
    files: {
      ...HOSTS,
      ...ROOT_ALONE,
      "etc/nsswitch.conf": "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n",
    },
    findsBy: "cache",
  },
  NIXOS,
  {
    ...NIXOS,
    name: "Guix",
    glibc: "/gnu/store/zvlp3n8iwa1svxmwv4q22pv1pb1c9pjq-glibc-2.39/lib",
    files: { ...HOSTS, ...ROOT_ALONE },
  },
];

/** The libraries of this machine that Deno is linked with, the loader among them. */
export function librariesOfDeno(): readonly string[] {
  const { success, stdout, stderr } = new Deno.Command("ldd", { args: [Deno.execPath()] })
    .outputSync();
  const text = new TextDecoder().decode(stdout);
  const paths = [...text.matchAll(/^\t(?:\S+ => )?(\/\S+) \(0x/gm)].map(([, path]) => path ?? "");
  if (!success || !paths.some((path) => path.endsWith("/libc.so.6"))) {
    throw new Error(`ldd does not say what Deno needs: ${new TextDecoder().decode(stderr)}${text}`);
  }
  return paths;
}

/** Makes a directory that is laid out like this. */
export function layOut(layout: Layout, root: string, libraries: readonly string[]): void {
  const make = (path: string) => Deno.mkdirSync(`${root}/${path}`, { recursive: true });
  for (const path of Object.values(MERGED)) make(path);
  for (const path of ["usr/lib64", "etc", "tmp", "proc", "dev"]) make(path);
  for (const [path, target] of Object.entries(layout.links)) {
    make(dirname(path));
    // Made above, and a link in this layout.
    try {
      Deno.removeSync(`${root}/${path}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    Deno.symlinkSync(target, `${root}/${path}`);
  }
  make(layout.glibc);
  for (const path of libraries) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    Deno.copyFileSync(path, `${root}${layout.glibc}/${name}`);
  }
  make(dirname(LOADER));
  const loader = LOADER.slice(LOADER.lastIndexOf("/"));
  try {
    Deno.symlinkSync(`${layout.glibc}${loader}`, `${root}${LOADER}`);
  } catch (error) {
    // There already: this layout has its libraries in the loader's own directory.
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  for (const [path, text] of Object.entries(layout.files)) {
    make(dirname(path));
    Deno.writeTextFileSync(`${root}/${path}`, text);
  }
  if (layout.findsBy === "cache") {
    Deno.writeTextFileSync(`${root}/etc/ld.so.conf`, `${layout.glibc}\n`);
    const { success, stderr } = new Deno.Command("ldconfig", { args: ["-X", "-r", root] })
      .outputSync();
    if (!success) throw new Error(`ldconfig: ${new TextDecoder().decode(stderr)}`);
  }
}
