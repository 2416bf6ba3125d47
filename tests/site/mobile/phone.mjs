// A phone for Node: a keychain in a file, and a name. These stand in for Expo's packages.

import { register } from "node:module";

const phone = {
  "expo-secure-store": `
    import { readFile, rm, writeFile } from "node:fs/promises";
    const file = (key) => new URL("keychain-" + key, "file://" + process.cwd() + "/");
    export const AFTER_FIRST_UNLOCK_THIS_DEVICE_ONLY = 4;
    export const getItemAsync = (key) => readFile(file(key), "utf8").catch(() => null);
    export const setItemAsync = (key, value) => writeFile(file(key), value);
    export const deleteItemAsync = (key) => rm(file(key), { force: true });
  `,
  "expo-device": `export const deviceName = "Ada's phone", modelName = "Phone 1";`,
};

const hooks = `
  const phone = ${JSON.stringify(phone)};
  export async function resolve(name, context, next) {
    if (name in phone) return { url: "data:text/javascript," + encodeURIComponent(phone[name]), shortCircuit: true };
    return next(/^\\.\\/\\w+$/.test(name) ? name + ".js" : name, context); // as a bundler resolves it
  }
`;
register("data:text/javascript," + encodeURIComponent(hooks));
