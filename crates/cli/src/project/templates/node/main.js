const http = require("node:http");

http
  .createServer((request, response) => {
    console.log(request.method, request.url);
    response.end("Hello from Cakework\n");
  })
  .listen(8080, () => console.log("listening on 8080"));
