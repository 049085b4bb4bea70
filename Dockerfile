# One image for edge, worker and sink; the command chooses.
FROM python:3.11 AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md ./
COPY avro avro
COPY streams streams
COPY connectors connectors
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[effect]'

FROM python:3.11-slim
RUN useradd --uid 1000 --create-home roundhouse && install --directory --owner roundhouse /var/lib/roundhouse
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels 'roundhouse[effect]' && rm -rf /wheels
USER roundhouse
ENV ROUNDHOUSE_DATA_DIR=/var/lib/roundhouse
VOLUME /var/lib/roundhouse
ENTRYPOINT ["roundhouse"]
CMD ["--help"]
