# docker build -t taco . && docker run --rm -it -p 8888:8888 -v "$PWD/runs:/home/taco/project/runs" taco make reproduce
# Two stages: the first makes the environment that `make env` makes, the second holds it and the project, and no root.
FROM python:3.11-slim AS environment
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home taco
USER taco
WORKDIR /home/taco/project
COPY --chown=taco requirements.lock settings.ini setup.py pyproject.toml Makefile README.md ./
COPY --chown=taco taco taco
RUN make env

FROM python:3.11-slim
# g++ lets torch compile the networks; without it they run as they are, and slower
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends make git g++ && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home taco
USER taco
WORKDIR /home/taco/project
COPY --chown=taco . .
COPY --from=environment --chown=taco /home/taco/project/.venv .venv
ENV PATH=/home/taco/project/.venv/bin:$PATH
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "nbs"]
