// A page that shows one object of a file that an h5grove server has: ?file=…&path=…
import "@h5web/app/styles.css";

import { App, H5GroveProvider } from "@h5web/app";
import { createRoot } from "react-dom/client";

const asked = new URLSearchParams(location.search);

createRoot(document.getElementById("root")).render(
  <H5GroveProvider url={location.origin} filepath={asked.get("file")}>
    <App initialPath={asked.get("path")} sidebarOpen={false} />
  </H5GroveProvider>,
);
