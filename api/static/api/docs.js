"use strict";

// Swagger UI is dark by a class, where the browser is by a preference.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

const docs = document.getElementById("docs");

const ui = SwaggerUIBundle({
  domNode: docs,
  url: docs.dataset.schema,
  layout: "BaseLayout",
  deepLinking: true,
  // No badge from another host, and no token in the browser's storage.
  validatorUrl: null,
  persistAuthorization: false,
  // After a sign-in on the page, by either transport, further calls use its access token.
  responseInterceptor(response) {
    const token = response.ok && (response.body?.accessToken ?? response.body?.access);
    if (token) {
      ui.preauthorizeApiKey("accessToken", token);
    }
    return response;
  },
});
