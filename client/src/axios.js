// @ts-check
/**
 * Latchkey for axios.
 * @import { AxiosInstance, AxiosResponse, InternalAxiosRequestConfig } from "axios"
 * @import { Latchkey } from "./latchkey.js"
 */

/** @typedef {InternalAxiosRequestConfig & {latchkey?: {token?: string, isRepeat: boolean}}} Config */

/**
 * Have an instance of axios send the access token, to the servers that may see it. A stale token is renewed, and the
 * request repeated once. Return a function that undoes this.
 * @param {AxiosInstance} instance @param {Latchkey} client
 */
export function connect(instance, client) {
  /** @param {Config} config */
  const urlOf = (config) => new URL(instance.getUri(config), globalThis.location?.href);

  /** @param {Config} config */
  const authorize = async (config) => {
    const url = urlOf(config);
    if (!client.trusts(url)) return config;
    config.latchkey = { token: await client.token(), isRepeat: Boolean(config.latchkey) };
    config.headers.set(await client.headers(url, config.method?.toUpperCase()));
    return config;
  };

  /** @param {AxiosResponse} response @returns {Promise<AxiosResponse | undefined>} */
  const repeat = async ({ status, data, config }) => {
    const { latchkey } = /** @type {Config} */ (config);
    if (status !== 401 || !latchkey?.token || latchkey.isRepeat) return undefined;
    const isRaw =
      typeof data === "string" || data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data);
    const response = new Response(isRaw ? /** @type {any} */ (data) : JSON.stringify(data ?? null), { status });
    Object.defineProperty(response, "url", { value: urlOf(config).href });
    return (await client.again(response, latchkey.token)) ? instance.request(config) : undefined;
  };

  const request = instance.interceptors.request.use(authorize);
  const response = instance.interceptors.response.use(
    async (answer) => (await repeat(answer)) ?? answer,
    async (error) => {
      const answer = error.response && (await repeat(error.response));
      if (answer) return answer;
      throw error;
    },
  );
  return () => {
    instance.interceptors.request.eject(request);
    instance.interceptors.response.eject(response);
  };
}
